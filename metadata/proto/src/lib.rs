//! weft-metadata-proto.
