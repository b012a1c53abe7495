//! Nodes as a whole: real daemons, real clients, shared memory and sockets in one process (or more, where one has to die).

mod engines;
mod world;
