//! A stand-in for NVIDIA's driver: `libcuda.so.1` over host memory, for tests on machines without a GPU.
//!
//! It is no emulator. It has the driver calls that `weft-gpu` uses, and is stricter than the real thing where a real one would
//! hide a fault until the wrong day:
//!
//! - **nothing asynchronous runs until it is forced.** A stream's copies wait until somebody synchronises with it, or waits for
//!   an event behind them. Whoever forgets a wait reads old bytes, every time;
//! - the copies of one batch run in reverse order;
//! - device addresses are no addresses of this process: to touch one is a segmentation fault;
//! - host memory that is not registered is copied at the call, as by the real driver; a range that is registered read-only is
//!   not written;
//! - any call can be told to fail, the n-th time it is made ([`control`]);
//! - whatever was made and not ended is counted, and so is memory that was unregistered while a copy needed it.
//!
//! Memory and events cross processes, as files behind descriptors of the process that made them.
//!
//! ```text
//!   test process ── LD_LIBRARY_PATH ──► libcuda.so.1 = this ── calls/*   the driver's interface
//!        └── control (libloading) ─────────────────────────── state    streams, events, memory, faults, what is alive
//! ```
//!
//! Speeds measured with it say nothing about any GPU: the device's name says so too.
#![expect(unsafe_code, reason = "it has the C interface of a driver, whose callers hand over raw pointers")]
#![expect(clippy::unwrap_used, reason = "a stand-in that meets what it did not expect should stop the test")]

mod calls;
pub mod control;
mod memory;
mod shared_event;
pub mod stage;
mod state;
