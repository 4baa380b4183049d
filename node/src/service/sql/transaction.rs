//! BEGIN … COMMIT within one request.

use sql::{Answer, Statement};
use types::Result;

use super::batch::Batch;
use super::write::Unit;
use super::{Fragment, invalid, render};
use crate::service::call::Failure;

/// A transaction's place in the batch.
pub struct Block {
    /// BEGIN.
    pub begin: usize,
    /// COMMIT or ROLLBACK.
    pub end: usize,
    /// COMMIT?
    pub commit: bool,
}

impl Batch<'_> {
    /// The transaction that begins at `begin`. INVALID_SQL if it is left open, or another begins
    /// within it: nothing of it has run then.
    pub(super) fn block(&self, begin: usize) -> Result<Block> {
        for (offset, statement) in self.statements[begin + 1..].iter().enumerate() {
            let end = begin + 1 + offset;
            match statement {
                Statement::Commit => {
                    return Ok(Block {
                        begin,
                        end,
                        commit: true,
                    });
                }
                Statement::Rollback => {
                    return Ok(Block {
                        begin,
                        end,
                        commit: false,
                    });
                }
                Statement::Begin => return Err(invalid("transactions cannot be nested")),
                Statement::Consume(_) => {
                    return Err(invalid("CONSUME cannot stand in a transaction"));
                }
                _ => {}
            }
        }
        Err(invalid(
            "the transaction was left open and has been rolled back: COMMIT is missing",
        ))
    }

    /// Runs a transaction; an error names the statement it belongs to.
    pub(super) async fn transaction(
        &mut self,
        block: &Block,
    ) -> Result<Vec<Fragment>, (usize, Failure)> {
        let unit = Unit {
            first: block.begin + 1,
            statements: &self.statements[block.begin + 1..block.end],
            transaction: true,
        };
        let done = |text: &str| -> Result<Fragment, (usize, Failure)> {
            let user = &self
                .caller()
                .map_err(|error| (block.begin, error.into()))?
                .user;
            let json = render::result(&Answer::done(text), user, self.room())
                .map_err(|error| (block.begin, error.into()))?;
            Ok(Fragment {
                json,
                receipt: None,
                index: 0,
            })
        };
        let mut fragments = vec![done("BEGIN")?];
        let mut end = done(if block.commit { "COMMIT" } else { "ROLLBACK" })?;
        if block.commit {
            let mut inner = self.commit(&unit).await?;
            // The receipt belongs to COMMIT; it comes with the last of the inner results.
            if let Some(last) = inner.last_mut() {
                (end.receipt, end.index) = (last.receipt.take(), last.index);
            }
            fragments.append(&mut inner);
            let chosen = unit.statements.iter().rev().find_map(|s| match s {
                Statement::Use(namespace) => Some(namespace.clone()),
                _ => None,
            });
            self.namespace = chosen.or(self.namespace.take());
        } else {
            fragments.append(&mut self.rehearse(&unit).await?);
        }
        fragments.push(end);
        Ok(fragments)
    }
}
