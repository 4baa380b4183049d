//! Clusters of real nodes: disks, sockets, elections. What one file of this crate does is tested
//! there; here is what only all of them together do.

mod guard;
mod harness;
mod membership;
mod reads;
mod refusals;
mod snapshots;
mod writes;
