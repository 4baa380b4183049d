//! Plans, made and applied on the in-memory engine.

mod alter;
mod catalog;
mod conflicts;
mod fixture;
mod refusals;
mod routes;
mod rows;
mod seed_flow;
mod transactions;
mod upserts;
mod users;
