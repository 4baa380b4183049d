//! HTTP: routes to calls, replies to responses. Handlers translate and do nothing else.

mod call;
mod delivery;
mod routes;
mod server;

pub use self::delivery::OnUndelivered;
pub use self::routes::{Edge, router};
pub use self::server::{HttpListener, Serving, bind};
