//! A router between real HTTP clients and real HTTP engines, all in this process, on loopback. Engines do what a test
//! tells them to, step by step, so that nothing here rests on time.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod admission;
mod approximate;
mod cancel;
mod cluster;
mod engine;
mod explain;
mod ext_proc;
mod failure;
mod keys;
mod kv_events;
mod limits;
mod metadata;
mod pass;
mod prefix;
