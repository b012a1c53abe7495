//! weft-attach.
