//! One kept-alive HTTP/1.1 connection, driven by the task that uses it.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};

use api::headers::{self, Consistency};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, InvalidHeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

type Driver = http1::Connection<TokioIo<TcpStream>, Full<Bytes>>;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

/// An answer, whatever its status.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub body: Bytes,
}

/// A connection to one node. One request at a time.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// None once it has ended: only dropping it tells `sender` so.
    driver: Option<Driver>,
}

impl Connection {
    /// Connects to `host:port`.
    pub async fn open(address: &str) -> Result<Connection, ConnectionError> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
        Ok(Connection {
            sender,
            driver: Some(driver),
        })
    }

    /// Sends one request and reads the whole answer. After an error the connection is of no use,
    /// and the server may have done what was asked.
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Reply, ConnectionError> {
        let sender = &mut self.sender;
        let exchange = async move {
            sender.ready().await?;
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            Ok(Reply { status, body })
        };
        drive(&mut self.driver, exchange).await
    }
}

/// Polls the connection together with what uses it: within one task, no message to another one.
async fn drive<F: Future>(driver: &mut Option<Driver>, work: F) -> F::Output {
    let mut work = pin!(work);
    poll_fn(|context| {
        let ended = driver
            .as_mut()
            .is_some_and(|driver| Pin::new(driver).poll(context).is_ready());
        if ended {
            // Why it ended reaches `work` too, as its error.
            *driver = None;
        }
        work.as_mut().poll(context)
    })
    .await
}

/// A POST that needs only its body.
#[derive(Clone, Debug)]
pub struct Template(Parts);

impl Template {
    /// A POST of JSON to `path` at `address` with that access token.
    pub fn post(
        address: &str,
        path: &'static str,
        token: &str,
    ) -> Result<Template, InvalidHeaderValue> {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_static(path);
        let headers = request.headers_mut();
        headers.insert(HOST, HeaderValue::from_str(address)?);
        let bearer = HeaderValue::from_str(&format!("Bearer {token}"))?;
        headers.insert(AUTHORIZATION, bearer);
        let json = HeaderValue::from_static("application/json");
        headers.insert(CONTENT_TYPE, json);
        Ok(Template(request.into_parts().0))
    }

    /// The same with a wish how fresh a read must be.
    #[must_use]
    pub fn consistency(mut self, consistency: Consistency) -> Template {
        let value = HeaderValue::from_static(consistency.as_str());
        self.0.headers.insert(headers::CONSISTENCY, value);
        self
    }

    /// A request with that body.
    pub fn with(&self, body: Bytes) -> Request<Full<Bytes>> {
        Request::from_parts(self.0.clone(), Full::new(body))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers each request it reads in full with the next of `answers`, then hangs up.
    async fn serve(listener: TcpListener, answers: Vec<&'static str>) -> String {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        for answer in answers {
            let before = seen.len();
            let mut buffer = [0; 4096];
            while !seen[before..].ends_with(b"{}") {
                let read = stream.read(&mut buffer).await.unwrap();
                assert!(read > 0, "the client hung up");
                seen.extend_from_slice(&buffer[..read]);
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        String::from_utf8(seen).unwrap()
    }

    #[tokio::test]
    async fn one_connection_carries_several_requests_and_notices_its_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let answers = vec![
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab",
            "HTTP/1.1 503 Unavailable\r\ntransfer-encoding: chunked\r\n\r\n1\r\nc\r\n0\r\n\r\n",
        ];
        let server = tokio::spawn(serve(listener, answers));
        let template = Template::post(&address, "/x", "secret").unwrap();
        let request = || template.with(Bytes::from_static(b"{}"));
        let mut connection = Connection::open(&address).await.unwrap();
        let first = connection.send(request()).await.unwrap();
        assert_eq!((first.status.as_u16(), &first.body[..]), (200, &b"ab"[..]));
        let second = connection.send(request()).await.unwrap();
        assert_eq!((second.status.as_u16(), &second.body[..]), (503, &b"c"[..]));
        let seen = server.await.unwrap();
        assert_eq!(seen.matches("POST /x HTTP/1.1").count(), 2);
        assert_eq!(seen.matches("authorization: Bearer secret").count(), 2);
        assert!(connection.send(request()).await.is_err());
    }

    #[test]
    fn a_template_may_ask_for_local_reads() {
        let template = Template::post("h:1", "/x", "t").unwrap();
        let request = template
            .consistency(Consistency::Local)
            .with(Bytes::from_static(b"{}"));
        assert_eq!(request.headers()[headers::CONSISTENCY], "local");
    }
}
