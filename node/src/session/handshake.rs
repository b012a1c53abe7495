//! Hello: who connects, whether it may, and the region it gets.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::timeout;
use weft_attach::{
    AttachmentId, Frame, FrameError, Hello, PeerProcess, Refused, ToEngine, ToNode, VERSION, Welcome,
    recv_with_descriptors, send_with_descriptors,
};
use weft_types::EndpointSpec;

use super::requests::Engine;
use super::{Attachment, HELLO_WAIT, SessionError, Shared};
use crate::arenas::ArenaLease;
use crate::report::{Attached, DeviceHeld, Verdict};

/// Longest wait for metadata to list the endpoint. An engine does not wait for a group that is away: it is let in, and
/// refused later if it has to be.
const VERDICT_WAIT: Duration = Duration::from_secs(2);

/// Lets an engine in, or says why not.
pub(super) async fn shake_hands(
    shared: &Arc<Shared>,
    stream: &mut UnixStream,
    id: AttachmentId,
) -> Result<Attachment, SessionError> {
    let peer = PeerProcess::of(stream).map_err(FrameError::from)?;
    if !shared.policy.admits(&peer) {
        let uid = peer.uid;
        let remedy = "run the engine as the node's user, or list its uid in allow_uids";
        return Err(refused(format!("uid {uid} may not attach: {remedy}"), false));
    }
    let (frame, _) = timeout(HELLO_WAIT, recv_with_descriptors(stream)).await.map_err(|_| SessionError::Silent)??;
    let Some(ToNode::Hello(hello)) = ToNode::decode(frame.kind, &frame.message).map_err(FrameError::from)? else {
        return Err(FrameError::Unexpected { kind: frame.kind }.into());
    };
    check(shared, &hello)?;
    shared.quarantine.surrender(peer.pid, &hello.surrendered);
    let arena = shared.arenas.attach(&hello.contract).map_err(|error| refused(error.to_string(), true))?;
    if timeout(HELLO_WAIT, shared.arenas.ready(&arena)).await.is_err() {
        return Err(refused("the memory of the arena does not come: see the node's log".to_owned(), true));
    }
    tracing::info!(
        attachment = id.0,
        endpoint = %hello.endpoint,
        incarnation = %hello.incarnation,
        uid = peer.uid,
        pid = peer.pid,
        watched = peer.is_watched(),
        "engine attaches",
    );

    let session = id.0 & u64::from(u32::MAX);
    let device = Arc::new(Mutex::new(DeviceHeld::default()));
    let (verdict, mut verdicts) = watch::channel(None);
    list(shared, &hello, session, &device, verdict).await;
    if shared.reporter.is_some() {
        match timeout(VERDICT_WAIT, verdicts.wait_for(Option::is_some)).await.map(|said| said.map(|said| said.clone()))
        {
            Ok(Ok(Some(Err(reason)))) => return Err(refused(reason, true)),
            Ok(_) => {}
            Err(_) => tracing::warn!(endpoint = %hello.endpoint, "metadata has not listed the endpoint yet: let in"),
        }
    }
    shared.roll.enter(&hello.endpoint, session, arena.contract(), &device);
    let (key, reporter) = (&arena.contract().model_key, shared.reporter.clone());
    let following = shared.events.follow(&hello.endpoint, key, &device, reporter, &shared.stop);
    // Of two who say what is on a device, the one that tells of it as it happens is believed.
    let device = if following.is_some() { Arc::default() } else { device };
    let attachment = Attachment {
        id,
        session,
        endpoint: hello.endpoint.clone(),
        peer,
        engine: Engine::new(arena, device, shared.gpu_copies),
        verdict: verdicts,
        _following: following,
    };
    if let Err(error) = welcome(shared, stream, id, frame.call, attachment.engine.arena()).await {
        shared.metrics.attached_engines.inc();
        attachment.end(shared).await;
        return Err(error);
    }
    Ok(attachment)
}

/// Tells the engine why it is not let in.
pub(super) async fn refuse(stream: &mut UnixStream, reason: &str, retry: bool) {
    let refused = ToEngine::Refused(Refused { reason: reason.to_owned(), retry });
    if let Err(error) = send_with_descriptors(stream, &Frame::new(refused.encode(), 1), &[]).await {
        tracing::debug!(%error, "the refused engine has gone");
    }
}

fn check(shared: &Shared, hello: &Hello) -> Result<(), SessionError> {
    if hello.version != VERSION {
        let reason = format!(
            "the engine speaks version {} of the socket protocol, this node version {VERSION}: \
             use the weft client of the node's release",
            hello.version
        );
        return Err(refused(reason, false));
    }
    let key = &hello.contract.model_key;
    if !key.adapter.is_empty() || !key.salt.is_empty() {
        return Err(refused("the contract names an adapter or a salt: leave both empty in it".to_owned(), false));
    }
    if shared.draining.is_cancelled() {
        return Err(refused("the node is draining".to_owned(), true));
    }
    Ok(())
}

async fn list(
    shared: &Shared,
    hello: &Hello,
    session: u64,
    device: &Arc<Mutex<DeviceHeld>>,
    verdict: watch::Sender<Option<Verdict>>,
) {
    let Some(reporter) = &shared.reporter else { return };
    let spec = EndpointSpec {
        id: hello.endpoint.clone(),
        incarnation: hello.incarnation,
        url: hello.url.clone(),
        node: Some(shared.node.clone()),
        ranks: 1,
        contracts: vec![hello.contract.clone()],
    };
    reporter.attach(Attached { session, spec, device: Arc::clone(device), verdict }).await;
}

async fn welcome(
    shared: &Shared,
    stream: &mut UnixStream,
    attachment: AttachmentId,
    call: u32,
    arena: &ArenaLease,
) -> Result<(), SessionError> {
    let region = arena.region();
    let readable = region.readable().map_err(|error| refused(error.to_string(), true))?;
    let writable = region.writable().ok_or_else(|| refused("the arena has no memory".to_owned(), true))?;
    let welcome = Welcome {
        version: VERSION,
        node: shared.node.clone(),
        incarnation: shared.incarnation,
        attachment,
        geometry: region.geometry(),
    };
    let frame = Frame::new(ToEngine::Welcome(welcome).encode(), call);
    send_with_descriptors(stream, &frame, &[writable, std::os::fd::AsFd::as_fd(&readable)]).await?;
    Ok(())
}

fn refused(reason: String, retry: bool) -> SessionError {
    SessionError::Refused { reason, retry }
}
