//! CREATE USER, ALTER USER, DROP USER.

use types::Result;
use types::schema::Role;

use super::tables::{if_exists, if_not_exists};
use super::tokens::Tokens;
use crate::statement::{AlterUser, CreateUser, DropUser, Statement, UserChange};

pub(super) fn create(tokens: &mut Tokens<'_>) -> Result<Statement> {
    let if_not_exists = if_not_exists(tokens)?;
    let name = tokens.name_or_string("a user's name")?;
    tokens.expect_words(&["WITH", "PASSWORD"])?;
    let password = tokens.string("a password")?;
    let (mut user_role, mut email) = (None, None);
    loop {
        if user_role.is_none() && tokens.words(&["ROLE"]) {
            user_role = Some(role(tokens)?);
        } else if email.is_none() && tokens.words(&["EMAIL"]) {
            email = Some(tokens.string("an address")?);
        } else {
            break;
        }
    }
    let role = user_role.unwrap_or(Role::User);
    Ok(Statement::CreateUser(CreateUser {
        name,
        if_not_exists,
        password,
        role,
        email,
    }))
}

pub(super) fn alter(tokens: &mut Tokens<'_>) -> Result<Statement> {
    let name = tokens.name_or_string("a user's name")?;
    tokens.expect_words(&["SET"])?;
    let change = if tokens.words(&["PASSWORD"]) {
        UserChange::Password(tokens.string("a password")?)
    } else if tokens.words(&["ROLE"]) {
        UserChange::Role(role(tokens)?)
    } else if tokens.words(&["EMAIL"]) {
        let none = tokens.words(&["NULL"]);
        UserChange::Email(if none {
            None
        } else {
            Some(tokens.string("an address")?)
        })
    } else {
        return Err(tokens.expected("PASSWORD, ROLE or EMAIL"));
    };
    Ok(Statement::AlterUser(AlterUser { name, change }))
}

pub(super) fn drop_user(tokens: &mut Tokens<'_>) -> Result<Statement> {
    let if_exists = if_exists(tokens)?;
    let name = tokens.name_or_string("a user's name")?;
    Ok(Statement::DropUser(DropUser { name, if_exists }))
}

fn role(tokens: &mut Tokens<'_>) -> Result<Role> {
    let place = tokens.here();
    let text = tokens.name_or_string_any("a role")?;
    Role::parse(&text).ok_or_else(|| {
        let message = format!("there is no role {text}; roles are user, service, dba and system");
        super::tokens::invalid(&message, place)
    })
}
