//! One connection to one life of the daemon: its region, the calls in flight, and what waits to be given back.
//!
//! Two tasks drive it: one reads answers and wakes their callers, one writes whatever has gathered in one go. An answer
//! whose caller has gone is undone (pins released, reservations given up), so that a cancelled future leaks nothing.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, OnceCell, mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use weft_attach::{
    AttachmentId, Commit, CommitSlot, Frame, FrameError, FrameReader, FrameWriter, Hello, Region, Release,
    ReservedBlock, SharedCache, SlotRef, ToEngine, ToNode, VERSION, recv_with_descriptors, send_with_descriptors,
};

use crate::client::AttachConfig;
use crate::device::DeviceTier;
use crate::error::AttachError;
use crate::silence::Silence;

/// Calls in flight on one connection: 1,024, far more than an engine has requests in its batch. A call beyond is a miss.
const CALLS_MAX: usize = 1024;

/// Frames that wait to be written. Calls are bounded already; this bounds what is fire-and-forget.
const FRAMES_MAX: usize = CALLS_MAX;

/// Bytes gathered before they are written: 256 KiB, about what a unix socket takes at once.
const WRITE_BYTES: usize = 256 << 10;

/// Longest wait for the welcome: the daemon may be making the region and asking metadata.
const WELCOME_WAIT: Duration = Duration::from_secs(5);

/// What outlives links.
#[derive(Debug, Default)]
pub(crate) struct Keepsake {
    /// The device tier, told anew to each daemon.
    pub(crate) device: Mutex<DeviceTier>,
    /// There is something of the device tier to be told.
    pub(crate) device_changed: Notify,
    /// A cache that nodes copy from and to by themselves.
    pub(crate) cache: Mutex<Option<SharedCache>>,
    /// Attachments of which no block is left.
    pub(crate) surrendered: Mutex<Vec<AttachmentId>>,
}

/// One attachment.
#[derive(Debug)]
pub(crate) struct Link {
    attachment: AttachmentId,
    region: Arc<Region>,
    frames: mpsc::Sender<Frame>,
    calls: Mutex<Calls>,
    returned: Mutex<Returned>,
    returned_some: Notify,
    closed: CancellationToken,
    /// Either side said that the connection is about to end.
    ending: AtomicBool,
    silence: Mutex<Silence>,
    keepsake: Arc<Keepsake>,
    /// Whether this daemon has opened our cache, or why not.
    shared: OnceCell<Result<(), String>>,
}

#[derive(Debug, Default)]
struct Calls {
    last: u32,
    waiting: HashMap<u32, oneshot::Sender<ToEngine>>,
}

#[derive(Debug, Default)]
struct Returned {
    pins: Vec<SlotRef>,
    reservations: Vec<SlotRef>,
}

impl Link {
    /// Connects and shakes hands. The two tasks run until the link is closed, by either side.
    pub(crate) async fn open(config: &AttachConfig, keepsake: &Arc<Keepsake>) -> Result<Arc<Self>, AttachError> {
        let after = WELCOME_WAIT.max(config.deadline);
        let deadline = |_| AttachError::Deadline { socket: config.socket.clone(), after };
        let surrendered = keepsake.surrendered.lock().clone();
        let told = surrendered.len();
        let (stream, attachment, region) =
            timeout(after, shake_hands(config, surrendered)).await.map_err(deadline)??;
        keepsake.surrendered.lock().drain(..told);
        keepsake.device.lock().reset();
        keepsake.device_changed.notify_one();

        let (read, write) = stream.into_split();
        let (frames, outgoing) = mpsc::channel(FRAMES_MAX);
        let link = Arc::new(Self {
            attachment,
            region,
            frames,
            calls: Mutex::default(),
            returned: Mutex::default(),
            returned_some: Notify::new(),
            closed: CancellationToken::new(),
            ending: AtomicBool::new(false),
            silence: Mutex::new(Silence::new(Instant::now())),
            keepsake: Arc::clone(keepsake),
            shared: OnceCell::new(),
        });
        tokio::spawn(Arc::clone(&link).read(read));
        tokio::spawn(Arc::clone(&link).write(write, outgoing));
        Ok(link)
    }

    /// Its memory.
    pub(crate) fn region(&self) -> &Arc<Region> {
        &self.region
    }

    /// Whether this daemon has opened our cache: asked once.
    pub(crate) fn shared(&self) -> &OnceCell<Result<(), String>> {
        &self.shared
    }

    /// The connection is about to end, as one side told the other: it takes no stores.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    /// We are about to end it.
    pub(crate) fn end_soon(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    /// The daemon did not answer a moment ago.
    pub(crate) fn is_paused(&self) -> bool {
        self.silence.lock().is_paused(Instant::now())
    }

    /// The connection is closed, or should be.
    pub(crate) fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    /// One request, one answer; `None` when none comes in time, or ever.
    pub(crate) async fn call(&self, request: &ToNode, deadline: Duration) -> Option<ToEngine> {
        let (answer, answered) = oneshot::channel();
        let call = self.register(answer)?;
        let asked = Instant::now();
        let exchange = async {
            self.frames.send(Frame::new(request.encode(), call)).await.ok()?;
            answered.await.ok()
        };
        match timeout(deadline, exchange).await {
            Ok(answer) => answer,
            Err(_) => {
                if let Some(pause) = self.silence.lock().unanswered(asked, Instant::now()) {
                    tracing::warn!(
                        attachment = self.attachment.0,
                        ?deadline,
                        ?pause,
                        "the node daemon does not answer: leaving it alone"
                    );
                }
                None
            }
        }
    }

    /// Says something that has no answer. When too much waits already it is dropped: all such messages are advice.
    pub(crate) fn tell(&self, message: &ToNode) {
        drop(self.frames.try_send(Frame::new(message.encode(), 0)));
    }

    /// Gives a pin back, soon.
    pub(crate) fn release(&self, slot: SlotRef) {
        self.returned.lock().pins.push(slot);
        self.returned_some.notify_one();
    }

    /// Gives a reservation back, soon.
    pub(crate) fn give_up(&self, slots: impl IntoIterator<Item = SlotRef>) {
        self.returned.lock().reservations.extend(slots);
        self.returned_some.notify_one();
    }

    fn register(&self, answer: oneshot::Sender<ToEngine>) -> Option<u32> {
        if self.closed.is_cancelled() {
            return None;
        }
        let mut calls = self.calls.lock();
        if calls.waiting.len() >= CALLS_MAX {
            return None;
        }
        // Numbers come round after four billion calls; 0 means that no answer is expected.
        calls.last = calls.last.wrapping_add(1).max(1);
        let call = calls.last;
        calls.waiting.insert(call, answer);
        Some(call)
    }

    async fn read(self: Arc<Self>, stream: OwnedReadHalf) {
        let mut frames = FrameReader::new(stream);
        let end = loop {
            let next = tokio::select! {
                next = frames.read() => next,
                () = self.closed.cancelled() => break FrameError::Closed,
            };
            self.silence.lock().heard(Instant::now());
            if let Err(error) = next.and_then(|frame| self.take_in(&frame)) {
                break error;
            }
        };
        if !self.closed.is_cancelled() && !matches!(end, FrameError::Closed) {
            tracing::warn!(error = %end, "lost the node daemon");
        }
        self.closed.cancel();
        // Dropping the senders tells every caller that no answer will come.
        self.calls.lock().waiting.clear();
    }

    fn take_in(&self, frame: &Frame) -> Result<(), FrameError> {
        let unexpected = || FrameError::Unexpected { kind: frame.kind };
        let message = ToEngine::decode(frame.kind, &frame.message)?.ok_or_else(unexpected)?;
        if let ToEngine::Draining(_) = message {
            if !self.ending.swap(true, Ordering::Relaxed) {
                tracing::info!(
                    attachment = self.attachment.0,
                    "the node daemon drains: stores are refused, and loads miss once it is gone, until one is back"
                );
            }
            return Ok(());
        }
        let waiting = self.calls.lock().waiting.remove(&frame.call).ok_or_else(unexpected)?;
        match waiting.send(message) {
            Ok(()) => {}
            Err(ToEngine::Loaded(loaded)) => loaded.blocks.iter().for_each(|block| self.release(block.slot)),
            Err(ToEngine::Reserved(reserved)) => self.give_up(granted(&reserved.blocks)),
            Err(_) => {}
        }
        Ok(())
    }

    async fn write(self: Arc<Self>, stream: OwnedWriteHalf, mut outgoing: mpsc::Receiver<Frame>) {
        let mut writer = FrameWriter::new(stream);
        loop {
            let first = tokio::select! {
                frame = outgoing.recv() => frame,
                () = self.returned_some.notified() => None,
                () = self.keepsake.device_changed.notified() => None,
                () = self.closed.cancelled() => break,
            };
            self.background().iter().for_each(|message| writer.push(&Frame::new(message.encode(), 0)));
            first.iter().for_each(|frame| writer.push(frame));
            while writer.pending_bytes() < WRITE_BYTES
                && let Ok(frame) = outgoing.try_recv()
            {
                writer.push(&frame);
            }
            if let Err(error) = writer.flush().await {
                tracing::debug!(%error, "cannot write to the node daemon");
                break;
            }
        }
        self.closed.cancel();
    }

    /// What is given back, and what changed on the device.
    fn background(&self) -> Vec<ToNode> {
        let Returned { pins, reservations } = std::mem::take(&mut *self.returned.lock());
        let mut messages = Vec::new();
        if !pins.is_empty() {
            messages.push(ToNode::Release(Release { slots: pins }));
        }
        if !reservations.is_empty() {
            let give_up = |slot| CommitSlot { slot, checksum: None };
            messages.push(ToNode::Commit(Commit { slots: reservations.into_iter().map(give_up).collect() }));
        }
        messages.extend(self.keepsake.device.lock().take().into_iter().map(ToNode::DeviceChanged));
        messages
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // The tasks, the client and the last loaded block have let go: nothing of this attachment is read any more.
        self.keepsake.surrendered.lock().push(self.attachment);
    }
}

/// Slots that were granted, of an answer.
pub(crate) fn granted(blocks: &[ReservedBlock]) -> impl Iterator<Item = SlotRef> {
    blocks.iter().filter_map(|block| match block {
        ReservedBlock::Slot(slot) => Some(*slot),
        ReservedBlock::Present | ReservedBlock::Full => None,
    })
}

async fn shake_hands(
    config: &AttachConfig,
    surrendered: Vec<AttachmentId>,
) -> Result<(UnixStream, AttachmentId, Arc<Region>), AttachError> {
    let socket = || config.socket.clone();
    let connect = |source| AttachError::Connect { socket: socket(), source };
    let mut stream = UnixStream::connect(&config.socket).await.map_err(connect)?;
    let hello = Hello {
        version: VERSION,
        endpoint: config.endpoint.clone(),
        incarnation: config.incarnation,
        url: config.url.clone(),
        contract: config.contract.clone(),
        surrendered,
    };
    let protocol = |source| AttachError::Protocol { socket: socket(), source };
    let hello = Frame::new(ToNode::Hello(Box::new(hello)).encode(), 1);
    send_with_descriptors(&mut stream, &hello, &[]).await.map_err(protocol)?;
    let (frame, descriptors) = recv_with_descriptors(&mut stream).await.map_err(protocol)?;
    match ToEngine::decode(frame.kind, &frame.message).map_err(|error| protocol(error.into()))? {
        Some(ToEngine::Refused(refused)) => {
            Err(AttachError::Refused { socket: socket(), reason: refused.reason, retry: refused.retry })
        }
        Some(ToEngine::Welcome(welcome)) => {
            let [writable, readable] = descriptors.as_slice() else {
                return Err(protocol(FrameError::Descriptors { announced: 2, arrived: descriptors.len() }));
            };
            let region = Region::open(welcome.geometry, writable, readable)
                .map_err(|source| AttachError::Region { socket: socket(), source })?;
            log_welcome(&config.socket, &welcome);
            Ok((stream, welcome.attachment, region))
        }
        _ => Err(protocol(FrameError::Unexpected { kind: frame.kind })),
    }
}

fn log_welcome(socket: &Path, welcome: &weft_attach::Welcome) {
    tracing::info!(
        socket = %socket.display(),
        node = %welcome.node,
        incarnation = %welcome.incarnation,
        slots = welcome.geometry.slots,
        "attached",
    );
}
