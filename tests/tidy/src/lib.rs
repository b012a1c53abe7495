//! weft-tidy.
