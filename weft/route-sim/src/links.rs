//! Links between nodes: one queue a node and direction, and one from its host memory to its device.

use crate::Setup;

/// When each of them is next free.
#[derive(Debug)]
pub(crate) struct Links {
    out_s: Vec<f64>,
    in_s: Vec<f64>,
    host_s: Vec<f64>,
    peer_bytes_per_s: f64,
    host_bytes_per_s: f64,
    pub(crate) fetched_bytes: f64,
}

impl Links {
    pub(crate) fn new(setup: &Setup) -> Self {
        let idle = || vec![0.0; setup.replicas];
        Self {
            out_s: idle(),
            in_s: idle(),
            host_s: idle(),
            peer_bytes_per_s: setup.peer_bytes_per_s,
            host_bytes_per_s: setup.host.map_or(0.0, |host| host.bytes_per_s),
            fetched_bytes: 0.0,
        }
    }

    /// When a fetch begun now would be over.
    pub(crate) fn fetched_at(&self, now_s: f64, from: usize, to: usize, bytes: f64) -> f64 {
        self.begin(now_s, from, to) + bytes / self.peer_bytes_per_s + Setup::PEER_RTT_S
    }

    /// Fetches; when it is over.
    pub(crate) fn fetch(&mut self, now_s: f64, from: usize, to: usize, bytes: f64) -> f64 {
        let done = self.begin(now_s, from, to) + bytes / self.peer_bytes_per_s;
        (self.out_s[from], self.in_s[to]) = (done, done);
        self.fetched_bytes += bytes;
        done + Setup::PEER_RTT_S
    }

    /// Loads from host memory; when it is over.
    pub(crate) fn load(&mut self, now_s: f64, at: usize, bytes: f64) -> f64 {
        let done = now_s.max(self.host_s[at]) + self.load_s(bytes);
        self.host_s[at] = done;
        done
    }

    /// What a load takes by itself.
    pub(crate) fn load_s(&self, bytes: f64) -> f64 {
        bytes / self.host_bytes_per_s
    }

    fn begin(&self, now_s: f64, from: usize, to: usize) -> f64 {
        now_s.max(self.out_s[from]).max(self.in_s[to])
    }
}
