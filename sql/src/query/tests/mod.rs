//! Tests of the query engine over the in-memory storage engine.

mod expressions;
mod fixture;
mod lookups;
mod meaning;
mod pushdown;
mod results;
mod selects;
mod system;
