//! weft-router.
