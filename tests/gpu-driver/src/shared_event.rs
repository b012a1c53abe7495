//! An event that two processes see: a page with three numbers, in a file.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap};

use crate::calls::{Code, INVALID_HANDLE};
use crate::state::State;

/// How often a process looks whether another one waits for it.
const LOOK: Duration = Duration::from_millis(1);

/// Longest wait for another process: it is gone then.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// One of them. The mapping stays until the process ends: it is a page.
#[derive(Clone, Debug)]
pub(crate) struct SharedEvent {
    file: Arc<OwnedFd>,
    page: &'static Page,
}

#[derive(Debug)]
#[repr(C)]
struct Page {
    /// How often it was recorded.
    recorded: AtomicU64,
    /// Up to which record the work is done.
    done: AtomicU64,
    /// Up to which record another process waits for it.
    wanted: AtomicU64,
}

impl SharedEvent {
    pub(crate) fn new() -> Self {
        let file = memfd_create("weft-gpu-event", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, size_of::<Page>() as u64).unwrap();
        Self::of(file)
    }

    pub(crate) fn of(file: OwnedFd) -> Self {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a fresh mapping, never unmapped, of a file that holds a page; atomics have no invalid values.
        let page = unsafe {
            let page =
                mmap(std::ptr::null_mut(), size_of::<Page>(), access, MapFlags::SHARED, file.as_fd(), 0).unwrap();
            &*page.cast::<Page>()
        };
        Self { file: Arc::new(file), page }
    }

    pub(crate) fn descriptor(&self) -> i32 {
        self.file.as_raw_fd()
    }

    pub(crate) fn recorded(&self) -> u64 {
        self.page.recorded.load(Ordering::SeqCst)
    }

    /// Number of the record.
    pub(crate) fn record(&self) -> u64 {
        self.page.recorded.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(crate) fn signal(&self, number: u64) {
        self.page.done.fetch_max(number, Ordering::SeqCst);
    }

    pub(crate) fn is_done(&self, number: u64) -> bool {
        self.page.done.load(Ordering::SeqCst) >= number
    }

    /// Forces the process that recorded it, and waits.
    pub(crate) fn wait(&self, number: u64) -> Result<(), Code> {
        self.page.wanted.fetch_max(number, Ordering::SeqCst);
        let until = Instant::now() + WAIT_MAX;
        while !self.is_done(number) {
            if Instant::now() > until {
                return Err(INVALID_HANDLE);
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }
}

/// Has work that another process waits for done, until the event is destroyed.
pub(crate) fn serve(event: u64, shared: SharedEvent) {
    thread::spawn(move || {
        loop {
            let wanted = shared.page.wanted.load(Ordering::SeqCst);
            let mut state = State::lock();
            let Some(known) = state.events.get(&event) else { return };
            if let Some(point) = known.recorded.filter(|_| !shared.is_done(wanted)) {
                let _failed = state.run(point);
            }
            drop(state);
            thread::sleep(LOOK);
        }
    });
}
