//! What the planning of one statement works with, and the lookups all families share.

use std::sync::Arc;

use storage::{Read, Snapshot};
use types::schema::{AccessLevel, Namespace, Role, Table, TableKind, Topic};
use types::{Error, ErrorCode};

use super::Planner;
use crate::catalog::{Catalog, Found};
use crate::failure::Result;
use crate::names::{QualifiedName, SYSTEM_NAMESPACE};
use crate::session::{Param, Session};

/// One statement's planning.
pub(super) struct Context<'a> {
    pub planner: &'a Planner,
    pub read: Arc<dyn Snapshot>,
    pub session: Session<'a>,
    pub params: &'a [Param],
    pub in_transaction: bool,
}

impl Context<'_> {
    pub fn catalog(&self) -> &Catalog {
        self.planner.engine.catalog()
    }

    pub fn snapshot(&self) -> &dyn Read {
        &*self.read
    }

    /// Has the caller at least this role?
    pub fn require(&self, role: Role, what: &str) -> Result<()> {
        if self.session.role >= role {
            return Ok(());
        }
        let message = format!("{what} needs role {}", role.as_str());
        Err(Error::new(ErrorCode::PermissionDenied, message).into())
    }

    /// A namespace in which things can be created.
    pub fn writable_namespace(&self, name: &str) -> Result<Found<Namespace>> {
        refuse_system(name)?;
        match self.catalog().namespace(self.snapshot(), name)? {
            Some(namespace) => Ok(namespace),
            None => Err(no_namespace(name).into()),
        }
    }

    /// A table that a statement may write to or change; not one of the server's own.
    pub fn table(&self, name: &QualifiedName) -> Result<Found<Table>> {
        let namespace = name.namespace_in(&self.session)?;
        refuse_system(namespace)?;
        match self
            .catalog()
            .table(self.snapshot(), namespace, &name.name)?
        {
            Some(table) => Ok(table),
            None => Err(not_found("table", namespace, &name.name).into()),
        }
    }

    /// A topic.
    pub fn topic(&self, name: &QualifiedName) -> Result<Found<Topic>> {
        let namespace = name.namespace_in(&self.session)?;
        match self
            .catalog()
            .topic(self.snapshot(), namespace, &name.name)?
        {
            Some(topic) => Ok(topic),
            None => Err(not_found("topic", namespace, &name.name).into()),
        }
    }

    /// May the caller change rows of the table?
    pub fn may_write(&self, table: &Table) -> Result<()> {
        crate::query::may_read(table, &self.session)?;
        let read_only = table.kind == TableKind::Shared
            && table.access == AccessLevel::Public
            && self.session.role < Role::Service;
        if read_only {
            let message = format!("writing to {} needs role service", table.qualified_name());
            return Err(Error::new(ErrorCode::PermissionDenied, message).into());
        }
        Ok(())
    }
}

/// The server's own tables change only by what they describe.
pub(super) fn refuse_system(namespace: &str) -> Result<()> {
    if namespace == SYSTEM_NAMESPACE {
        let message = format!("the namespace {SYSTEM_NAMESPACE} belongs to the server");
        return Err(Error::new(ErrorCode::PermissionDenied, message).into());
    }
    Ok(())
}

/// `TABLE_NOT_FOUND` for a table or topic.
pub(super) fn not_found(what: &str, namespace: &str, name: &str) -> Error {
    let message = format!("{what} {namespace}.{name} does not exist");
    Error::new(ErrorCode::TableNotFound, message)
}

/// `TABLE_NOT_FOUND` for a namespace.
pub(super) fn no_namespace(name: &str) -> Error {
    Error::new(
        ErrorCode::TableNotFound,
        format!("namespace {name} does not exist"),
    )
}

/// `SQL_EXECUTION_ERROR`: what the statement asks for is not possible as things are.
pub(super) fn failed(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::SqlExecutionError, message)
}

/// `INVALID_INPUT`.
pub(super) fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::InvalidInput, message)
}
