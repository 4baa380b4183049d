//! Notices when a response body never went out.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use hyper::body::{Body as HttpBody, Frame, SizeHint};

/// Something to do if an answer is dropped before its body was taken for sending: the client went
/// away, and the messages in it were never delivered.
pub struct OnUndelivered(Option<Action>);

type Action = Box<dyn FnOnce() + Send + Sync>;

impl OnUndelivered {
    /// Does `action` unless the answer goes out.
    pub fn new(action: impl FnOnce() + Send + Sync + 'static) -> OnUndelivered {
        OnUndelivered(Some(Box::new(action)))
    }

    /// All of these as one; none of none.
    pub fn all(parts: Vec<OnUndelivered>) -> Option<OnUndelivered> {
        let actions: Vec<Action> = parts
            .into_iter()
            .filter_map(|mut part| part.0.take())
            .collect();
        (!actions.is_empty())
            .then(|| OnUndelivered::new(move || actions.into_iter().for_each(|action| action())))
    }

    /// The answer went out, or somebody else answers for it now.
    pub fn disarm(mut self) {
        self.0 = None;
    }

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
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

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

    #[test]
    fn several_are_acted_on_together_or_not_at_all() {
        let count = Arc::new(AtomicUsize::new(0));
        let part = || {
            let count = Arc::clone(&count);
            OnUndelivered::new(move || {
                count.fetch_add(1, Ordering::SeqCst);
            })
        };
        drop(OnUndelivered::all(vec![part(), part()]));
        assert_eq!(count.load(Ordering::SeqCst), 2);
        let all = OnUndelivered::all(vec![part(), part()]);
        all.expect("there are some").disarm();
        assert_eq!(count.load(Ordering::SeqCst), 2);
        assert!(OnUndelivered::all(vec![]).is_none());
    }

    #[tokio::test]
    async fn a_body_that_is_dropped_does_not() {
        let (lost, body) = watched();
        drop(body);
        assert!(lost.load(Ordering::SeqCst));
    }
}
