//! A subscription in memory: items in the order they were published, each when the weather lets it through.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use weft_transport_proto::{Refusal, RefusalCode};
use weft_types::codec::DecodeError;
use weft_types::rpc::Method;

use super::{Handler, IDLE_MAX, Network, Sink, Socket, route};
use crate::CallError;

/// Items that are on their way at a time: beyond it the publisher waits, as for a window.
const WINDOW: usize = 16;

/// An item that was lost is sent again after this.
const AGAIN_AFTER: Duration = Duration::from_millis(50);

/// The publisher's end.
#[derive(Debug)]
pub(crate) struct Outlet(mpsc::Sender<Piece>);

/// The subscriber's end.
#[derive(Debug)]
pub(crate) struct Inlet {
    pieces: mpsc::Receiver<(Instant, Piece)>,
    /// The next one, while it is on its way: a dropped `item` loses nothing.
    coming: Option<(Instant, Piece)>,
    from: SocketAddr,
    what: &'static str,
}

#[derive(Debug)]
enum Piece {
    Item(Vec<u8>),
    Refused(Refusal),
    Done,
}

/// Starts the handler; its items come out of what is returned.
pub(super) fn open<M: Method>(
    network: &Network,
    client: &Arc<Socket>,
    server: &Arc<Socket>,
    body: Vec<u8>,
) -> Result<Inlet, Refusal> {
    let routes = server.routes();
    let route = route(&routes, &client.me, M::ID)?;
    let Handler::Subscription(handler) = &route.handler else {
        return Err(Refusal::new(RefusalCode::BadRequest, "a method to call"));
    };
    let (outlet, published) = mpsc::channel(WINDOW);
    let (handling, back) =
        handler(client.me.clone(), &body, Sink::Memory(Outlet(outlet.clone()))).map_err(|(_, refusal)| refusal)?;
    let (carried, pieces) = mpsc::channel(WINDOW);
    tokio::spawn(carry(network.clone(), Arc::clone(client), Arc::clone(server), published, carried));
    let from = server.addr;
    let server = Arc::clone(server);
    tokio::spawn(async move {
        let ending = async { (handling.await, back.await) };
        let last = tokio::select! {
            biased;
            () = server.closed() => return,
            () = outlet.closed() => return,
            ended = ending => match ended {
                (Ok(()), Ok(_)) => Piece::Done,
                (Err(refusal), Ok(_)) => Piece::Refused(refusal),
                (_, Err(_abandoned)) => return,
            },
        };
        // A subscriber that is gone needs no last word.
        drop(outlet.send(last).await);
    });
    Ok(Inlet { pieces, coming: None, from, what: M::NAME })
}

/// Takes each piece through the weather, in order.
async fn carry(
    network: Network,
    client: Arc<Socket>,
    server: Arc<Socket>,
    mut published: mpsc::Receiver<Piece>,
    carried: mpsc::Sender<(Instant, Piece)>,
) {
    let mut not_before = Instant::now();
    loop {
        let piece = tokio::select! {
            biased;
            // Killed: its end just falls silent.
            () = server.closed() => return carried.closed().await,
            () = carried.closed() => return,
            piece = published.recv() => piece,
        };
        let Some(piece) = piece else { return };
        let gives_up = Instant::now() + IDLE_MAX;
        let delay = loop {
            match network.copies(server.addr, client.addr).first() {
                Some(delay) => break *delay,
                None if Instant::now() >= gives_up => return,
                None => sleep(AGAIN_AFTER).await,
            }
        };
        not_before = not_before.max(Instant::now() + delay);
        if carried.send((not_before, piece)).await.is_err() {
            return;
        }
    }
}

impl Outlet {
    pub(crate) async fn item(&self, bytes: Vec<u8>) -> Result<(), String> {
        self.0.send(Piece::Item(bytes)).await.map_err(|_| "it does not read any more".to_owned())
    }

    pub(crate) async fn closed(&self) {
        self.0.closed().await;
    }
}

impl Inlet {
    pub(crate) async fn item(&mut self) -> Result<Option<Vec<u8>>, CallError> {
        if self.coming.is_none() {
            self.coming = self.pieces.recv().await;
        }
        let Some((due, _)) = &self.coming else {
            return Err(CallError::Broken { addr: self.from, reason: "it fell silent".to_owned() });
        };
        sleep_until(*due).await;
        match self.coming.take() {
            Some((_, Piece::Item(bytes))) => Ok(Some(bytes)),
            Some((_, Piece::Refused(refusal))) => {
                Err(CallError::Refused { addr: self.from, method: self.what, refusal })
            }
            Some((_, Piece::Done)) | None => Ok(None),
        }
    }

    pub(crate) fn undecodable(&self, source: DecodeError) -> CallError {
        CallError::Decode { addr: self.from, method: self.what, source }
    }
}
