//! Namespaces, tables and indexes.

use types::schema::{AccessLevel, DefaultExpr, TableKind};
use types::value::DataType;

use crate::names::QualifiedName;

/// CREATE NAMESPACE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateNamespace {
    /// The new name.
    pub name: String,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
}

/// DROP NAMESPACE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropNamespace {
    /// Which.
    pub name: String,
    /// IF EXISTS.
    pub if_exists: bool,
    /// CASCADE: with the tables and topics in it.
    pub cascade: bool,
}

/// DROP TABLE, DROP TOPIC or DROP INDEX.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropObject {
    /// Which.
    pub name: QualifiedName,
    /// IF EXISTS.
    pub if_exists: bool,
    /// CASCADE: also what depends on it.
    pub cascade: bool,
}

/// CREATE TABLE.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateTable {
    /// The new name.
    pub name: QualifiedName,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// Whose rows it will hold.
    pub kind: TableKind,
    /// Who may use it; PUBLIC unless stated.
    pub access: Option<AccessLevel>,
    /// The columns, in order.
    pub columns: Vec<ColumnDefinition>,
    /// The primary key's columns; empty if the statement has none.
    pub primary_key: Vec<String>,
    /// UNIQUE constraints, of a column or of the table.
    pub unique: Vec<UniqueConstraint>,
}

/// A column in CREATE TABLE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnDefinition {
    /// Its name.
    pub name: String,
    /// Its type.
    pub data_type: DataType,
    /// May it be null? A primary key's columns are made NOT NULL when the table is planned.
    pub nullable: bool,
    /// DEFAULT.
    pub default: Option<DefaultExpr>,
}

/// A UNIQUE constraint in CREATE TABLE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UniqueConstraint {
    /// Its name after CONSTRAINT.
    pub name: Option<String>,
    /// Its columns.
    pub columns: Vec<String>,
}

/// ALTER TABLE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlterTable {
    /// Which.
    pub table: QualifiedName,
    /// What changes.
    pub change: TableChange,
}

/// What ALTER TABLE changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableChange {
    /// ADD COLUMN.
    Add {
        /// The new column.
        column: ColumnDefinition,
        /// IF NOT EXISTS.
        if_not_exists: bool,
    },
    /// DROP COLUMN, with the indexes over it.
    Drop {
        /// Which.
        column: String,
        /// IF EXISTS.
        if_exists: bool,
    },
    /// RENAME COLUMN.
    Rename {
        /// Which.
        column: String,
        /// Its new name.
        to: String,
    },
    /// SET DEFAULT or DROP DEFAULT.
    Default {
        /// Of which column.
        column: String,
        /// The new default.
        default: Option<DefaultExpr>,
    },
    /// SET NOT NULL or DROP NOT NULL.
    Nullable {
        /// Which column.
        column: String,
        /// May it be null?
        nullable: bool,
    },
}

/// CREATE INDEX.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateIndex {
    /// Its name, in the table's namespace.
    pub name: String,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// UNIQUE.
    pub unique: bool,
    /// Of which table.
    pub table: QualifiedName,
    /// Over which columns.
    pub columns: Vec<String>,
}
