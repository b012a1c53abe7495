//! The version handshake: each end says the range it speaks, both use the highest they share.
//!
//! A release speaks its own version and the one before it, so neighbouring releases can talk during an upgrade.

use std::fmt;

/// Protocol versions that one end speaks, lowest and highest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VersionRange {
    min: u16,
    max: u16,
}

/// Two ends that cannot talk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "no version in common: we speak {ours}, the peer speaks {theirs}; upgrade one release at a time, so that both overlap"
)]
pub struct NoCommonVersion {
    /// What this end speaks.
    pub ours: VersionRange,
    /// What the other end speaks.
    pub theirs: VersionRange,
}

impl VersionRange {
    /// What this release speaks.
    pub const OURS: Self = Self { min: 1, max: 1 };

    /// A range; `None` if it is empty.
    #[must_use]
    pub const fn new(min: u16, max: u16) -> Option<Self> {
        if min <= max { Some(Self { min, max }) } else { None }
    }

    /// Lowest version.
    #[must_use]
    pub const fn min(self) -> u16 {
        self.min
    }

    /// Highest version.
    #[must_use]
    pub const fn max(self) -> u16 {
        self.max
    }

    /// The version that both ends use. It is the same whichever end asks.
    ///
    /// # Errors
    /// The ranges do not overlap.
    pub fn agree(self, theirs: Self) -> Result<u16, NoCommonVersion> {
        let highest = self.max.min(theirs.max);
        if highest >= self.min.max(theirs.min) { Ok(highest) } else { Err(NoCommonVersion { ours: self, theirs }) }
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max { write!(f, "{}", self.max) } else { write!(f, "{} to {}", self.min, self.max) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(min: u16, max: u16) -> VersionRange {
        VersionRange::new(min, max).unwrap()
    }

    #[test]
    fn neighbouring_releases_agree_on_the_older_ones_newest() {
        assert_eq!(range(1, 2).agree(range(2, 3)), Ok(2));
        assert_eq!(range(2, 3).agree(range(1, 2)), Ok(2));
        assert_eq!(range(1, 1).agree(range(1, 2)), Ok(1));
    }

    #[test]
    fn releases_too_far_apart_are_told_both_ranges() {
        let error = range(1, 2).agree(range(3, 4)).unwrap_err();
        assert!(error.to_string().contains("we speak 1 to 2, the peer speaks 3 to 4"), "{error}");
    }
}
