//! Notices when a response body never went out.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use hyper::body::{Body as HttpBody, Frame, SizeHint};

/// Something to do if an answer is dropped before its body was taken for sending: the client went
/// away, and the messages in it were never delivered.
pub struct OnUndelivered(Option<Box<dyn FnOnce() + Send + Sync>>);

impl OnUndelivered {
    /// Does `action` unless the answer goes out.
    pub fn new(action: impl FnOnce() + Send + Sync + 'static) -> OnUndelivered {
        OnUndelivered(Some(Box::new(action)))
    }

    /// The answer went out.
    fn delivered(&mut self) {
        self.0 = None;
    }

    /// The same body, watched.
    pub fn watch(self, body: Body) -> Body {
        Body::new(Watched {
            body,
            undelivered: self,
        })
    }
}

impl Drop for OnUndelivered {
    fn drop(&mut self) {
        if let Some(action) = self.0.take() {
            action();
        }
    }
}

impl fmt::Debug for OnUndelivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnUndelivered")
    }
}

struct Watched {
    body: Body,
    undelivered: OnUndelivered,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        if polled.is_ready() {
            this.undelivered.delivered();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use http_body_util::BodyExt;

    use super::*;

    fn watched() -> (Arc<AtomicBool>, Body) {
        let lost = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&lost);
        let watch = OnUndelivered::new(move || seen.store(true, Ordering::SeqCst));
        (lost, watch.watch(Body::from("messages")))
    }

    #[tokio::test]
    async fn a_body_that_is_read_counts_as_delivered() {
        let (lost, body) = watched();
        let read = body.collect().await.expect("reads").to_bytes();
        assert_eq!(&read[..], b"messages");
        assert!(!lost.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn a_body_that_is_dropped_does_not() {
        let (lost, body) = watched();
        drop(body);
        assert!(lost.load(Ordering::SeqCst));
    }
}
