//! HTTP: routes to calls, replies to responses. Handlers translate and do nothing else.

mod call;
mod delivery;
mod front;
mod routes;
mod server;
mod stream;

pub use self::delivery::OnUndelivered;
pub use self::front::{Edge, Front};
pub use self::routes::router;
pub use self::server::{HttpListener, Serving, bind};
