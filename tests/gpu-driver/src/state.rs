//! Streams as queues of what has not happened yet, and everything that is alive.

use std::collections::{HashMap, VecDeque};
use std::sync::LazyLock;

use parking_lot::{Mutex, MutexGuard};

use crate::calls::{Code, INVALID_HANDLE};
use crate::control::Faults;
use crate::memory::{Memory, Place, Registration};
use crate::shared_event::SharedEvent;

/// Devices there are, unless a test takes them away.
pub(crate) const DEVICES: usize = 2;

/// The stream that is always there.
pub(crate) const DEFAULT_STREAM: u64 = 0;

static STATE: LazyLock<Mutex<State>> = LazyLock::new(Mutex::default);

/// The driver.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) initialised: bool,
    pub(crate) version: i32,
    pub(crate) devices: i32,
    pub(crate) read_only_registration: bool,
    pub(crate) contexts: [usize; DEVICES],
    pub(crate) streams: HashMap<u64, Stream>,
    pub(crate) events: HashMap<u64, Event>,
    last: u64,
    pub(crate) memory: Memory,
    pub(crate) faults: Faults,
    /// Memory that was unregistered while a copy needed it.
    pub(crate) misuses: usize,
    /// Calls for many copies at once.
    pub(crate) batches: usize,
}

/// What waits, in order.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    waiting: VecDeque<Op>,
    issued: u64,
    done: u64,
}

/// A point in a stream: behind so many of its operations.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    pub(crate) stream: u64,
    pub(crate) number: u64,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Event {
    /// Where, by this process.
    pub(crate) recorded: Option<Point>,
    pub(crate) shared: Option<SharedEvent>,
}

/// Something a stream will do.
#[derive(Debug)]
pub(crate) enum Op {
    Nothing,
    Copy { to: Place, from: Place, bytes: usize },
    Put { to: Place, staged: Vec<u8> },
    Wait(Point),
    WaitShared(SharedEvent, u64),
    Signal(SharedEvent, u64),
}

impl Default for State {
    fn default() -> Self {
        Self {
            initialised: false,
            version: 12_080,
            devices: DEVICES as i32,
            read_only_registration: true,
            contexts: [0; DEVICES],
            streams: HashMap::from([(DEFAULT_STREAM, Stream::default())]),
            events: HashMap::new(),
            last: 0,
            memory: Memory::default(),
            faults: Faults::default(),
            misuses: 0,
            batches: 0,
        }
    }
}

impl Event {
    pub(crate) fn new(interprocess: bool) -> Self {
        Self { recorded: None, shared: interprocess.then(SharedEvent::new) }
    }
}

impl State {
    pub(crate) fn lock() -> MutexGuard<'static, Self> {
        STATE.lock()
    }

    fn number(&mut self) -> u64 {
        self.last += 1;
        // No address, and no small number either.
        0xc0da_0000_0000 + self.last
    }

    pub(crate) fn add_stream(&mut self) -> u64 {
        let number = self.number();
        self.streams.insert(number, Stream::default());
        number
    }

    pub(crate) fn add_event(&mut self, event: Event) -> u64 {
        let number = self.number();
        self.events.insert(number, event);
        number
    }

    /// Puts an operation at the end of a stream.
    pub(crate) fn push(&mut self, stream: u64, op: Op) -> Result<Point, Code> {
        let queue = self.streams.get_mut(&stream).ok_or(INVALID_HANDLE)?;
        queue.waiting.push_back(op);
        queue.issued += 1;
        Ok(Point { stream, number: queue.issued })
    }

    pub(crate) fn end_of(&self, stream: u64) -> Result<Point, Code> {
        let queue = self.streams.get(&stream).ok_or(INVALID_HANDLE)?;
        Ok(Point { stream, number: queue.issued })
    }

    pub(crate) fn done_of(&self, stream: u64) -> u64 {
        self.streams.get(&stream).map_or(u64::MAX - 1, |stream| stream.done)
    }

    /// A stream that was destroyed had done everything.
    pub(crate) fn is_done(&self, point: Point) -> bool {
        self.done_of(point.stream) >= point.number
    }

    /// Has everything up to a point done, and what it waits for.
    pub(crate) fn run(&mut self, until: Point) -> Result<(), Code> {
        while !self.is_done(until) {
            let stream = self.streams.get_mut(&until.stream).ok_or(INVALID_HANDLE)?;
            let Some(op) = stream.waiting.pop_front() else { return Err(INVALID_HANDLE) };
            stream.done += 1;
            match op {
                Op::Nothing => {}
                Op::Copy { to, from, bytes } => to.write(&from.read(bytes)),
                Op::Put { to, staged } => to.write(&staged),
                Op::Wait(point) => self.run(point)?,
                Op::WaitShared(event, number) => event.wait(number)?,
                Op::Signal(event, number) => event.signal(number),
            }
        }
        Ok(())
    }

    /// Has everything done.
    pub(crate) fn run_all(&mut self) {
        for stream in self.streams.keys().copied().collect::<Vec<_>>() {
            let end = self.end_of(stream).unwrap();
            let _failed = self.run(end);
        }
    }

    /// The context is lost: nothing of what waits will happen.
    pub(crate) fn lose_pending(&mut self) {
        for stream in self.streams.values_mut() {
            stream.waiting.clear();
            stream.done = stream.issued;
        }
    }

    /// Whether something that waits reads or writes registered memory.
    pub(crate) fn pending_touches(&self, range: &Registration) -> bool {
        let touches = |op: &Op| match op {
            Op::Copy { to, from, bytes } => range.overlaps(to.host(), *bytes) || range.overlaps(from.host(), *bytes),
            _ => false,
        };
        self.streams.values().any(|stream| stream.waiting.iter().any(touches))
    }
}
