//! CREATE USER, ALTER USER, DROP USER.

use storage::keys::catalog as keys;
use types::limits::{NAME_MAX_BYTES, PASSWORD_MAX_BYTES, PASSWORD_MIN_BYTES};
use types::schema::{Role, User};
use types::{Error, ErrorCode};

use super::Plan;
use super::context::{Context, failed, invalid};
use super::draft::{AuditEntry, Draft, json};
use crate::answer::Answer;
use crate::catalog::Found;
use crate::failure::Result;
use crate::names::check_new;
use crate::statement::{AlterUser, CreateUser, DropUser, UserChange};

/// The account every cluster has. It stays: without it nobody might be left to administer.
const ROOT: &str = "root";
const MICROS_PER_SECOND: i64 = 1_000_000;

pub(super) fn create(context: &Context<'_>, create: &CreateUser) -> Result<Plan> {
    context.require(Role::Dba, "CREATE USER")?;
    check_new("user's name", &create.name)?;
    check_password(&create.password)?;
    check_email(create.email.as_deref())?;
    may_hand_out(context, create.role)?;
    if context
        .catalog()
        .user(context.snapshot(), &create.name)?
        .is_some()
    {
        let message = format!("User {} exists already", create.name);
        if create.if_not_exists {
            return Ok(Plan::nothing(Answer::done(message)));
        }
        return Err(failed(message).into());
    }
    let now = context.session.now;
    let user = User {
        name: create.name.clone(),
        role: create.role,
        email: create.email.clone(),
        password_hash: context.planner.inject.passwords.hash(&create.password)?,
        tokens_valid_from: now.div_euclid(MICROS_PER_SECOND),
        created_at: now,
        updated_at: now,
    };
    let mut draft = Draft::default();
    draft.put_new(keys::user(&user.name), json(&user));
    audit(
        context,
        &mut draft,
        "CREATE USER",
        &user.name,
        user.role.as_str(),
    );
    Ok(draft.into_plan(Answer::done(format!("User {} created", user.name)))?)
}

/// Everybody may change their own password and address; the rest is a dba's.
pub(super) fn alter(context: &Context<'_>, alter: &AlterUser) -> Result<Plan> {
    let own = alter.name == context.session.user;
    if !own || matches!(alter.change, UserChange::Role(_)) {
        context.require(Role::Dba, "ALTER USER")?;
    }
    let found = existing(context, &alter.name)?;
    let mut user = User::clone(&found.record);
    let now = context.session.now;
    let what = match &alter.change {
        UserChange::Password(password) => {
            check_password(password)?;
            user.password_hash = context.planner.inject.passwords.hash(password)?;
            user.tokens_valid_from = now.div_euclid(MICROS_PER_SECOND);
            "PASSWORD"
        }
        UserChange::Role(role) => {
            may_hand_out(context, *role)?;
            if user.name == ROOT && *role != Role::System {
                return Err(failed("the role of root cannot change").into());
            }
            user.role = *role;
            // Tokens name the role they were issued for.
            user.tokens_valid_from = now.div_euclid(MICROS_PER_SECOND);
            "ROLE"
        }
        UserChange::Email(email) => {
            check_email(email.as_deref())?;
            user.email.clone_from(email);
            "EMAIL"
        }
    };
    user.updated_at = now;
    let mut draft = Draft::default();
    draft.pin(&found);
    draft.put(found.key, json(&user));
    audit(context, &mut draft, "ALTER USER", &user.name, what);
    Ok(draft.into_plan(Answer::done(format!("User {} altered", user.name)))?)
}

/// The user's rows stay: the owner of rows need not have an account.
pub(super) fn drop(context: &Context<'_>, drop: &DropUser) -> Result<Plan> {
    context.require(Role::Dba, "DROP USER")?;
    if drop.if_exists
        && context
            .catalog()
            .user(context.snapshot(), &drop.name)?
            .is_none()
    {
        let message = format!("User {} does not exist", drop.name);
        return Ok(Plan::nothing(Answer::done(message)));
    }
    let found = existing(context, &drop.name)?;
    if drop.name == ROOT {
        return Err(failed("root cannot be dropped").into());
    }
    let mut draft = Draft::default();
    draft.pin(&found);
    draft.delete(found.key);
    audit(context, &mut draft, "DROP USER", &drop.name, "");
    Ok(draft.into_plan(Answer::done(format!("User {} dropped", drop.name)))?)
}

/// An account that the caller may change: none above the caller's own role.
fn existing(context: &Context<'_>, name: &str) -> Result<Found<User>> {
    let found = context.catalog().user(context.snapshot(), name)?;
    let found = found
        .ok_or_else(|| Error::new(ErrorCode::NotFound, format!("user {name} does not exist")))?;
    context.require(found.record.role, "changing that account")?;
    Ok(found)
}

fn may_hand_out(context: &Context<'_>, role: Role) -> Result<()> {
    context.require(role, &format!("handing out role {}", role.as_str()))
}

fn check_password(password: &str) -> types::Result<()> {
    if (PASSWORD_MIN_BYTES..=PASSWORD_MAX_BYTES).contains(&password.len()) {
        return Ok(());
    }
    let message =
        format!("a password has {PASSWORD_MIN_BYTES} to {PASSWORD_MAX_BYTES} bytes of UTF-8");
    Err(invalid(message))
}

fn check_email(email: Option<&str>) -> types::Result<()> {
    match email {
        Some(email) if email.len() > NAME_MAX_BYTES || !email.contains('@') => Err(invalid(
            format!("an address has an @ and at most {NAME_MAX_BYTES} bytes"),
        )),
        _ => Ok(()),
    }
}

fn audit(context: &Context<'_>, draft: &mut Draft, action: &str, name: &str, details: &str) {
    let entry = AuditEntry {
        action,
        target: name,
        details,
        subject: Some(name),
    };
    draft.audit(&context.session, entry);
}
