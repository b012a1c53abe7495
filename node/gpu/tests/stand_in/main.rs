//! Everything that weft does with a GPU, against the stand-in driver: right bytes, right order, no fault unhandled, nothing left.
//!
//! Each test runs again in a process that loads the stand-in (`weft_gpu_driver::stage`). Where a wait is what makes bytes right, a
//! twin without it gets wrong ones: the stand-in does nothing before it must.
#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

mod absent;
mod copies;
mod engine;
mod faults;
mod order;
mod pins;
mod processes;
