//! Exit codes: BSD `sysexits.h` numbers, so that a supervisor can tell a bad configuration from a busy port.

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
