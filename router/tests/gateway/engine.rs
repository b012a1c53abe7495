//! An engine whose every answer is written by the test.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::cluster::soon;

type Answer = Response<UnsyncBoxBody<Bytes, std::io::Error>>;

/// An engine on a port of its own. Dropping it closes the port and every connection.
pub(crate) struct Engine {
    pub(crate) addr: SocketAddr,
    pub(crate) healthy: Arc<AtomicBool>,
    /// Once cancelled, probes are left unanswered.
    frozen: CancellationToken,
    asked: mpsc::Receiver<Asked>,
    stop: CancellationToken,
}

/// A request that arrived at an engine and waits for its answer.
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    reply: oneshot::Sender<Answer>,
    /// Ends when the connection of this request does, or its answer is through.
    gone: Gone,
}

/// An answer being streamed: send chunks, then drop it to end it, or [`Streaming::die`].
pub(crate) struct Streaming {
    chunks: mpsc::Sender<Result<Bytes, std::io::Error>>,
    pub(crate) gone: Gone,
}

/// Resolves when nobody listens any more.
pub(crate) struct Gone(oneshot::Receiver<()>);

impl Engine {
    pub(crate) async fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap()).await
    }

    pub(crate) async fn start_at(addr: SocketAddr) -> Self {
        let listener = TcpListener::bind(addr).await.unwrap();
        let (addr, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let (healthy, frozen) = (Arc::new(AtomicBool::new(true)), CancellationToken::new());
        let (to_test, asked) = mpsc::channel(64);
        tokio::spawn(stop.clone().run_until_cancelled_owned(serve(
            listener,
            to_test,
            Arc::clone(&healthy),
            frozen.clone(),
            stop.clone(),
        )));
        Self { addr, healthy, frozen, asked, stop }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The next request.
    pub(crate) async fn asked(&mut self) -> Asked {
        soon(self.asked.recv()).await.unwrap()
    }

    /// Answers no probe from now on, as a process that is stopped or hangs.
    pub(crate) fn freeze(&self) {
        self.frozen.cancel();
    }

    /// No request has arrived that was not taken.
    pub(crate) fn is_idle(&mut self) -> bool {
        self.asked.try_recv().is_err()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Asked {
    /// Answers whole.
    pub(crate) fn answer(self, status: StatusCode, content_type: &str, body: &str) {
        let length = body.len();
        let body = Full::new(Bytes::from(body.to_owned())).map_err(|never: Infallible| match never {});
        let response = Response::builder().status(status).header("content-type", content_type);
        let response = response.header("content-length", length);
        let _ = self.reply.send(response.body(UnsyncBoxBody::new(body)).unwrap());
    }

    pub(crate) fn answer_json(self, body: &str) {
        self.answer(StatusCode::OK, "application/json", body);
    }

    /// Answers with a head now, and with chunks as they are sent.
    pub(crate) fn stream(self, content_type: &str) -> Streaming {
        let (chunks, receiver) = mpsc::channel::<Result<Bytes, std::io::Error>>(1);
        let frames = stream::unfold(receiver, async |mut receiver| {
            let chunk = receiver.recv().await?;
            Some((chunk.map(Frame::data), receiver))
        });
        let response = Response::builder().header("content-type", content_type);
        let _ = self.reply.send(response.body(UnsyncBoxBody::new(StreamBody::new(Box::pin(frames)))).unwrap());
        Streaming { chunks, gone: self.gone }
    }

    /// Closes the connection without a word.
    pub(crate) fn hang_up(self) {}

    pub(crate) async fn gone(self) {
        soon(self.gone.0).await.unwrap_err();
    }
}

impl Streaming {
    pub(crate) async fn send(&self, chunk: &str) {
        soon(self.chunks.send(Ok(Bytes::from(chunk.to_owned())))).await.unwrap();
    }

    /// Sends until nobody takes it.
    pub(crate) async fn flood(&self, chunk: &Bytes) {
        while soon(self.chunks.send(Ok(chunk.clone()))).await.is_ok() {}
    }

    /// Breaks the connection in the middle of the answer.
    pub(crate) async fn die(self) {
        let _ = self.chunks.send(Err(std::io::Error::other("killed"))).await;
    }

    pub(crate) async fn gone(self) {
        soon(self.gone.0).await.unwrap_err();
    }
}

async fn serve(
    listener: TcpListener,
    to_test: mpsc::Sender<Asked>,
    healthy: Arc<AtomicBool>,
    frozen: CancellationToken,
    stop: CancellationToken,
) {
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let (to_test, healthy, frozen) = (to_test.clone(), Arc::clone(&healthy), frozen.clone());
        let service = service_fn(move |request| answer(request, to_test.clone(), Arc::clone(&healthy), frozen.clone()));
        let connection = http1::Builder::new().serve_connection(TokioIo::new(socket), service);
        tokio::spawn(stop.clone().run_until_cancelled_owned(connection));
    }
}

async fn answer(
    request: Request<Incoming>,
    to_test: mpsc::Sender<Asked>,
    healthy: Arc<AtomicBool>,
    frozen: CancellationToken,
) -> Result<Answer, std::io::Error> {
    if request.uri().path() == "/health" {
        if frozen.is_cancelled() {
            std::future::pending::<()>().await;
        }
        let status = if healthy.load(Ordering::SeqCst) { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let body = Full::default().map_err(|never: Infallible| match never {});
        return Ok(Response::builder().status(status).body(UnsyncBoxBody::new(body)).unwrap());
    }
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    let (reply, replied) = oneshot::channel();
    // Lives as long as this request: in this future, then in the body of its answer.
    let (alive, gone) = oneshot::channel::<()>();
    let asked = Asked { method: head.method, uri: head.uri, headers: head.headers, body, reply, gone: Gone(gone) };
    to_test.send(asked).await.map_err(std::io::Error::other)?;
    let answer: Answer = replied.await.map_err(std::io::Error::other)?;
    Ok(answer.map(|body| {
        UnsyncBoxBody::new(body.map_frame(move |frame| {
            let _ = &alive;
            frame
        }))
    }))
}
