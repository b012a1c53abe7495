//! Exit codes: BSD `sysexits.h` numbers, so that a supervisor can tell a bad configuration from a busy port.

use std::error::Error;

/// The command line was wrong.
pub const USAGE: u8 = 64;
/// Something needed was not there: an address in use, no metadata member reachable.
pub const UNAVAILABLE: u8 = 69;
/// A bug in weft, or a check that failed while it ran.
pub const SOFTWARE: u8 = 70;
/// The cluster said no: not permitted, or against what it has agreed on. The same again would be refused again.
pub const REFUSED: u8 = 77;
/// The configuration was wrong.
pub const CONFIG: u8 = 78;

/// An error that knows its exit code.
pub trait Fault: Error + Send + Sync + 'static {
    /// One of the codes of [`crate::exit`]: [`CONFIG`] if starting again without a change cannot help.
    fn exit_code(&self) -> u8;
}

/// Why a role stopped, and the code that the process ends with.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub struct Stopped {
    #[source]
    source: Box<dyn Error + Send + Sync>,
    pub(crate) code: u8,
}

impl<F: Fault> From<F> for Stopped {
    fn from(fault: F) -> Self {
        Self { code: fault.exit_code(), source: fault.into() }
    }
}

impl Stopped {
    /// Something needed is not there, or is there no longer.
    pub fn unavailable(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { code: UNAVAILABLE, source: source.into() }
    }
}
