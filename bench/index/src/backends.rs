//! The indexes, each fed as it likes best.

pub(crate) mod chain;
pub(crate) mod crtc;
pub(crate) mod dynamo;
pub(crate) mod radix;
pub(crate) mod weft;
