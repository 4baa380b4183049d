mod bad;
mod depth;
mod good;
