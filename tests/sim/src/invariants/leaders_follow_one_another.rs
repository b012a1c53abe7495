//! Leaders follow one another: along the log no entry is of an earlier leadership than one before it, and every leadership
//! under which something was committed was one member's alone.
//!
//! A leadership is a term and a member, in that order: openraft lets a second member win a term of which the first has not
//! made use everywhere yet, and then the first is out. So "one leader a term" is not what is promised, and nothing of weft's
//! relies on it.

use std::collections::BTreeMap;

use weft_metadata::testing::{Seen, Standing};

pub(crate) const NAME: &str = "leaders follow one another";

/// A term, and who leads in it.
type Leadership = (u64, u64);

/// The leadership of every index that was applied, and who was seen leading.
#[derive(Debug, Default)]
pub(crate) struct Leaders {
    log: BTreeMap<u64, Leadership>,
    /// Member → the latest term that it led.
    led: BTreeMap<u64, u64>,
}

impl Leaders {
    pub(crate) fn applied(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        let leadership = (seen.term, seen.leader);
        self.log.insert(seen.index, leadership);
        let before = self.log.range(..seen.index).next_back();
        match before.filter(|(_, before)| **before > leadership) {
            None => Ok(()),
            Some((index, before)) => {
                Err(format!("entry {} is of {leadership:?}, entry {index} of {before:?}", seen.index))
            }
        }
    }

    /// A member's own terms only grow.
    pub(crate) fn stands(&mut self, member: u64, standing: Standing) -> Result<(), String> {
        let led = self.led.entry(member).or_default();
        if standing.leads && standing.term < *led {
            return Err(format!("member {member} leads term {}, after it led {led}", standing.term));
        }
        if standing.leads {
            *led = standing.term;
        }
        Ok(())
    }
}
