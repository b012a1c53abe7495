//! Real QUIC on loopback: calls between two fabrics.

#[path = "fabric/world.rs"]
mod world;

#[path = "fabric/calls.rs"]
mod calls;
