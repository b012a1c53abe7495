//! weft-transport-proto.
