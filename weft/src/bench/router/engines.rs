//! Engines that compute nothing: they answer what a proxy sends them, at once or event by event, on one thread of ours.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use super::cores::Cores;
use super::wire::Wire;

/// Between the events of a stream: a fast engine's. Paced, so that no proxy is given two events at once for being slow.
const EVENT_EVERY: Duration = Duration::from_millis(10);

/// Several of them. Dropping it ends them.
pub(super) struct Engines {
    pub(super) addrs: Vec<SocketAddr>,
    _stop: oneshot::Sender<()>,
}

impl Engines {
    /// Starts so many.
    pub(super) fn start(cores: Cores, many: usize) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let bind = || async { TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await };
        let listeners: Vec<_> =
            (0..many).map(|_| runtime.block_on(bind())).collect::<Result<_, _>>().context("cannot bind an engine")?;
        let addrs = listeners.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?;
        let (stop, stopped) = oneshot::channel();
        std::thread::spawn(move || {
            cores.pin_ours();
            runtime.block_on(async {
                for listener in listeners {
                    tokio::spawn(accept(listener));
                }
                // The sender was dropped: nothing else ends it.
                let _ = stopped.await;
            });
        });
        Ok(Self { addrs, _stop: stop })
    }
}

async fn accept(listener: TcpListener) {
    while let Ok((socket, _)) = listener.accept().await {
        tokio::spawn(async move {
            // A proxy that closes a connection is its own affair: what it fails to answer is counted at the client.
            let Ok(wire) = Wire::new(socket) else { return };
            let _ = serve(wire).await;
        });
    }
}

async fn serve(mut wire: Wire) -> std::io::Result<()> {
    while let Some(request) = wire.receive().await? {
        match events(request.body) {
            _ if request.head.starts_with(b"GET ") => wire.send(&whole("{}")).await?,
            None => {
                wire.send(&whole(&format!(r#"{{"choices":[{{"text":"{}"}}],{USAGE}}}"#, " lorem".repeat(32)))).await?
            }
            Some(events) => stream(&mut wire, events).await?,
        }
    }
    Ok(())
}

const USAGE: &str =
    r#""usage":{"prompt_tokens":4000,"completion_tokens":32,"prompt_tokens_details":{"cached_tokens":0}}"#;

/// Events that a request wants, each a token; `None`: its answer in one piece. The parameters are at the end of our bodies.
fn events(body: &[u8]) -> Option<usize> {
    let tail = std::str::from_utf8(&body[body.len().saturating_sub(64)..]).ok()?;
    let (_, tail) = tail.split_once(r#""stream":true,"max_tokens":"#)?;
    tail.trim_end_matches('}').parse().ok()
}

async fn stream(wire: &mut Wire, events: usize) -> std::io::Result<()> {
    const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    const EVENT: &str = concat!(
        r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"bench","#,
        r#""choices":[{"index":0,"delta":{"content":" lorem"},"logprobs":null,"finish_reason":null}]}"#
    );
    let event = chunk(&format!("{EVENT}\n\n"));
    let last = format!("{}{}0\r\n\r\n", chunk(&format!("data: {{{USAGE}}}\n\n")), chunk("data: [DONE]\n\n"));
    let mut next = Instant::now();
    wire.send(format!("{HEAD}{event}").as_bytes()).await?;
    for _ in 1..events {
        next += EVENT_EVERY;
        sleep_until(next).await;
        wire.send(event.as_bytes()).await?;
    }
    wire.send(last.as_bytes()).await
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

fn whole(body: &str) -> Vec<u8> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length:";
    format!("{head} {}\r\n\r\n{body}", body.len()).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_body_wants_is_at_its_end() {
        assert_eq!(events(br#"{"model":"m","stream":true,"max_tokens":17}"#), Some(17));
        assert_eq!(events(br#"{"model":"m","stream":false,"max_tokens":17}"#), None);
        assert_eq!(events(b""), None);
    }
}
