//! weft-policy.
