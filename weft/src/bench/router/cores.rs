//! Who runs where: what is measured on a core of its own, and what plays client and engine on another.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Two cores; the same one, on a machine with one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cores {
    ours: Option<usize>,
    measured: Option<usize>,
}

impl Cores {
    /// The first two that this process may use.
    pub(super) fn new() -> Self {
        let Ok(set) = sched_getaffinity(None) else { return Self { ours: None, measured: None } };
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core));
        let ours = cores.next();
        Self { ours, measured: cores.next().or(ours) }
    }

    /// This thread plays client or engine.
    pub(super) fn pin_ours(self) {
        pin(self.ours);
    }

    /// This thread, and the processes that it starts, are measured.
    pub(super) fn pin_measured(self) {
        pin(self.measured);
    }
}

/// Where the kernel does not let us, all run anywhere: CPU time stays what it is, latencies get noisier.
fn pin(core: Option<usize>) {
    let Some(core) = core else { return };
    let mut set = CpuSet::new();
    set.set(core);
    let _ = sched_setaffinity(None, &set);
}
