//! weft-metadata.
