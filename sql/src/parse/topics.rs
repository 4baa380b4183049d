//! Topics and consumer groups (CONTRACT §3.1).

use chrono::DateTime;
use types::Result;
use types::command::Position;
use types::limits::{CONSUME_LIMIT_DEFAULT, CONSUME_LIMIT_MAX, PARTITIONS_MAX};
use types::schema::{PayloadMode, RowOp};

use super::options::{OptionValue, Options};
use super::tables::{drop_object, if_not_exists};
use super::tokens::{Tokens, invalid};
use crate::statement::{
    Ack, AckTarget, AddSource, Consume, CreateTopic, DropSource, Nack, ResetGroup, Retention,
    SetRetention, Statement,
};

// ---- CREATE, DROP, CLEAR, ALTER TOPIC
// ------------------------------------------------------------

pub(super) fn create(tokens: &mut Tokens<'_>) -> Result<Statement> {
    let if_not_exists = if_not_exists(tokens)?;
    let name = tokens.qualified_name("a topic")?;
    let mut partitions = 1;
    if tokens.words(&["PARTITIONS"]) {
        let at = tokens.here();
        partitions = tokens.number("PARTITIONS")?;
        if !(1..=PARTITIONS_MAX).contains(&partitions) {
            return Err(types::Error {
                code: types::ErrorCode::InvalidInput,
                ..invalid(&format!("a topic has 1 to {PARTITIONS_MAX} partitions"), at)
            });
        }
    }
    let retention = retention(tokens)?;
    Ok(Statement::CreateTopic(CreateTopic {
        name,
        if_not_exists,
        partitions,
        retention,
    }))
}

pub(super) fn drop_topic(tokens: &mut Tokens<'_>) -> Result<Statement> {
    Ok(Statement::DropTopic(drop_object(tokens, "a topic")?))
}

pub(super) fn clear(tokens: &mut Tokens<'_>) -> Result<Statement> {
    tokens.expect_words(&["TOPIC"])?;
    Ok(Statement::ClearTopic(tokens.qualified_name("a topic")?))
}

pub(super) fn alter(tokens: &mut Tokens<'_>) -> Result<Statement> {
    let topic = tokens.qualified_name("a topic")?;
    if tokens.words(&["ADD"]) {
        tokens.expect_words(&["SOURCE"])?;
        let (table, op) = source(tokens)?;
        let filter = if tokens.words(&["WHERE"]) {
            Some(tokens.expr()?)
        } else {
            None
        };
        let payload = payload(tokens)?;
        let source = AddSource {
            topic,
            table,
            op,
            filter,
            payload,
        };
        Ok(Statement::AddSource(Box::new(source)))
    } else if tokens.words(&["DROP"]) {
        tokens.expect_words(&["SOURCE"])?;
        let (table, op) = source(tokens)?;
        Ok(Statement::DropSource(DropSource { topic, table, op }))
    } else if tokens.words(&["SET"]) {
        tokens.expect_words(&["RETENTION"])?;
        if !tokens.peek_words(&["WITH"]) {
            return Err(tokens.expected("WITH (retention_seconds = …, retention_max_bytes = …)"));
        }
        let retention = retention(tokens)?;
        Ok(Statement::SetRetention(SetRetention { topic, retention }))
    } else if tokens.words(&["CLEAR"]) {
        tokens.expect_words(&["RETENTION"])?;
        let retention = Retention {
            seconds: Some(None),
            max_bytes: Some(None),
        };
        Ok(Statement::SetRetention(SetRetention { topic, retention }))
    } else {
        Err(tokens.expected("ADD SOURCE, DROP SOURCE, SET RETENTION or CLEAR RETENTION"))
    }
}

fn source(tokens: &mut Tokens<'_>) -> Result<(crate::names::QualifiedName, RowOp)> {
    let table = tokens.qualified_name("a table")?;
    tokens.expect_words(&["ON"])?;
    let op = if tokens.words(&["INSERT"]) {
        RowOp::Insert
    } else if tokens.words(&["UPDATE"]) {
        RowOp::Update
    } else if tokens.words(&["DELETE"]) {
        RowOp::Delete
    } else {
        return Err(tokens.expected("INSERT, UPDATE or DELETE"));
    };
    Ok((table, op))
}

fn payload(tokens: &mut Tokens<'_>) -> Result<PayloadMode> {
    let mut options = Options::parse(tokens)?;
    let payload = options.take("payload").map(|entry| {
        let OptionValue::Text(text) = &entry.value else {
            return Err(entry.expected("'full', 'key' or 'diff'"));
        };
        [PayloadMode::Full, PayloadMode::Key, PayloadMode::Diff]
            .into_iter()
            .find(|mode| mode.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| entry.expected("'full', 'key' or 'diff'"))
    });
    options.none_left("payload")?;
    Ok(payload.transpose()?.unwrap_or(PayloadMode::Full))
}

fn retention(tokens: &mut Tokens<'_>) -> Result<Retention> {
    let mut options = Options::parse(tokens)?;
    let mut bound = |name: &str| {
        let entry = options.take(name)?;
        Some(match entry.value {
            OptionValue::Null => Ok(None),
            OptionValue::Number(number) if number > 0 => Ok(Some(number)),
            _ => Err(entry.expected("a whole number from 1, or NULL")),
        })
    };
    let seconds = bound("retention_seconds").transpose()?;
    let max_bytes = bound("retention_max_bytes").transpose()?;
    options.none_left("retention_seconds and retention_max_bytes")?;
    Ok(Retention { seconds, max_bytes })
}

// ---- CONSUME, ACK, NACK, RESET
// -------------------------------------------------------------------

pub(super) fn consume(tokens: &mut Tokens<'_>) -> Result<Statement> {
    tokens.expect_words(&["FROM"])?;
    let topic = tokens.qualified_name("a topic")?;
    let (mut partition, mut group, mut from, mut limit) = (None, None, None, None);
    loop {
        if partition.is_none() && tokens.words(&["PARTITION"]) {
            partition = Some(tokens.number("PARTITION")?);
        } else if group.is_none() && tokens.words(&["GROUP"]) {
            group = Some(tokens.string("a group's name")?);
        } else if from.is_none() && tokens.words(&["FROM"]) {
            from = Some(position(tokens, "EARLIEST, LATEST or an offset")?);
        } else if limit.is_none() && tokens.words(&["LIMIT"]) {
            let at = tokens.here();
            let number = tokens.number("LIMIT")?;
            if !(1..=CONSUME_LIMIT_MAX).contains(&number) {
                return Err(invalid(&format!("LIMIT is 1 to {CONSUME_LIMIT_MAX}"), at));
            }
            limit = Some(number);
        } else {
            break;
        }
    }
    Ok(Statement::Consume(Consume {
        topic,
        partition,
        group,
        from: from.unwrap_or(Position::Latest(true)),
        limit: limit.unwrap_or(CONSUME_LIMIT_DEFAULT),
    }))
}

fn position(tokens: &mut Tokens<'_>, what: &str) -> Result<Position> {
    if tokens.words(&["EARLIEST"]) {
        Ok(Position::Earliest(true))
    } else if tokens.words(&["LATEST"]) {
        Ok(Position::Latest(true))
    } else if tokens.at_number() {
        tokens.number("an offset").map(Position::Offset)
    } else {
        Err(tokens.expected(what))
    }
}

pub(super) fn ack(tokens: &mut Tokens<'_>) -> Result<Statement> {
    let topic = tokens.qualified_name("a topic")?;
    let (group, partition) = group_and_partition(tokens)?;
    let what = if tokens.words(&["UPTO"]) {
        tokens.expect_words(&["OFFSET"])?;
        AckTarget::Upto(tokens.number("an offset")?)
    } else if tokens.words(&["LEASE"]) {
        AckTarget::Lease {
            id: tokens.string("a lease's id")?,
            offsets: offsets(tokens)?,
        }
    } else {
        return Err(tokens.expected("UPTO OFFSET or LEASE"));
    };
    let partition = partition.unwrap_or(0);
    Ok(Statement::Ack(Ack {
        topic,
        group,
        partition,
        what,
    }))
}

pub(super) fn nack(tokens: &mut Tokens<'_>) -> Result<Statement> {
    let topic = tokens.qualified_name("a topic")?;
    let (group, partition) = group_and_partition(tokens)?;
    tokens.expect_words(&["LEASE"])?;
    let lease_id = tokens.string("a lease's id")?;
    let offsets = offsets(tokens)?;
    let delay_ms = if tokens.words(&["DELAY"]) {
        tokens.number("DELAY, in ms")?
    } else {
        0
    };
    Ok(Statement::Nack(Nack {
        topic,
        group,
        partition,
        lease_id,
        offsets,
        delay_ms,
    }))
}

fn group_and_partition(tokens: &mut Tokens<'_>) -> Result<(String, Option<u32>)> {
    tokens.expect_words(&["GROUP"])?;
    let group = tokens.string("a group's name")?;
    let named = tokens.words(&["PARTITION"]);
    let partition = if named {
        Some(tokens.number("PARTITION")?)
    } else {
        None
    };
    Ok((group, partition))
}

fn offsets(tokens: &mut Tokens<'_>) -> Result<Vec<u64>> {
    if tokens.words(&["OFFSETS"]) {
        tokens.parenthesized(|tokens| tokens.number("an offset"))
    } else {
        Ok(Vec::new())
    }
}

pub(super) fn reset(tokens: &mut Tokens<'_>) -> Result<Statement> {
    tokens.expect_words(&["CONSUMER", "GROUP"])?;
    let group = tokens.string("a group's name")?;
    tokens.expect_words(&["ON"])?;
    let topic = tokens.qualified_name("a topic")?;
    let named = tokens.words(&["PARTITION"]);
    let partition = if named {
        Some(tokens.number("PARTITION")?)
    } else {
        None
    };
    tokens.expect_words(&["TO"])?;
    let to = if tokens.words(&["TIMESTAMP"]) {
        let at = tokens.here();
        let text = tokens.string("an RFC 3339 time")?;
        let time = DateTime::parse_from_rfc3339(&text)
            .map_err(|_| invalid("TIMESTAMP takes an RFC 3339 time: 2026-04-18T12:00:00Z", at))?;
        Position::Timestamp(time.timestamp_micros())
    } else {
        position(tokens, "EARLIEST, LATEST, an offset or TIMESTAMP")?
    };
    Ok(Statement::ResetGroup(ResetGroup {
        group,
        topic,
        partition,
        to,
    }))
}
