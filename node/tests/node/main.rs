//! Nodes as a whole: real daemons, real clients, shared memory and sockets in one process (or more, where one has to die).

#![expect(clippy::unwrap_used, reason = "a world that cannot be built fails the test")]

mod disk;
mod engines;
mod events;
mod fleet;
mod gpu;
mod metadata;
mod resp;
mod resync;
mod world;
