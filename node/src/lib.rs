//! weft-node.
