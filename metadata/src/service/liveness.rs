//! Liveness of node daemons: leases in the leader's memory, by its monotonic clock.
//!
//! A new leader knows no lease, and gives every node of the roster a full term from when it first looks; so a node that
//! keeps alive is never expired by a change of leader. Pure: `now` is an argument.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use weft_types::{Incarnation, NodeId, NodeSpec};

/// Who is alive, as one leadership at a time knows it. What tenants lease is another thing, and in the directory.
///
/// There is one a node of the roster, so the directory's limit on nodes bounds it.
#[derive(Debug)]
pub(crate) struct Liveness {
    term: Duration,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    leadership: u64,
    until: HashMap<NodeId, (Incarnation, Instant)>,
}

impl Held {
    /// Leases of an earlier leadership mean nothing.
    fn of(&mut self, leadership: u64) -> &mut Self {
        if self.leadership != leadership {
            *self = Self { leadership, until: HashMap::new() };
        }
        self
    }
}

impl Liveness {
    pub(crate) fn new(term: Duration) -> Self {
        Self { term, held: Mutex::default() }
    }

    /// How long a lease lasts.
    pub(crate) fn term(&self) -> Duration {
        self.term
    }

    /// The node is alive now.
    pub(crate) fn renew(&self, leadership: u64, node: &NodeId, incarnation: Incarnation, now: Instant) {
        self.held.lock().of(leadership).until.insert(node.clone(), (incarnation, now + self.term));
    }

    /// How long the node's lease lasts, if it has one: it kept alive, or this leadership has just begun.
    pub(crate) fn left(&self, leadership: u64, node: &NodeId, now: Instant) -> Option<Duration> {
        let mut held = self.held.lock();
        let (_, until) = held.of(leadership).until.get(node)?;
        Some(until.saturating_duration_since(now)).filter(|left| !left.is_zero())
    }

    /// This process did not run for `span`: nobody's lease ran meanwhile, since nobody could renew it.
    pub(crate) fn forgive(&self, span: Duration) {
        for (_, until) in self.held.lock().until.values_mut() {
            *until += span;
        }
    }

    /// Nodes of the roster whose lease has run out.
    pub(crate) fn expired<'a>(
        &self,
        leadership: u64,
        nodes: impl Iterator<Item = &'a NodeSpec>,
        now: Instant,
    ) -> Vec<(NodeId, Incarnation)> {
        let mut held = self.held.lock();
        let before = std::mem::take(&mut held.of(leadership).until);
        let mut expired = Vec::new();
        for node in nodes {
            let until = match before.get(&node.id) {
                Some((incarnation, until)) if *incarnation == node.incarnation => *until,
                _ => now + self.term,
            };
            if until <= now {
                expired.push((node.id.clone(), node.incarnation));
            }
            held.until.insert(node.id.clone(), (node.incarnation, until));
        }
        expired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, incarnation: u64) -> NodeSpec {
        NodeSpec {
            id: name.parse().unwrap(),
            incarnation: Incarnation::new(incarnation),
            fabric: "127.0.0.1:1".parse().unwrap(),
            bulk: "127.0.0.1:2".parse().unwrap(),
            capacity: Default::default(),
            labels: Default::default(),
        }
    }

    #[test]
    fn a_lease_runs_out_unless_renewed_and_a_new_leader_gives_everyone_a_full_term() {
        let liveness = Liveness::new(Duration::from_secs(2));
        let start = Instant::now();
        let at = |tenths: u64| start + Duration::from_millis(tenths * 100);
        let (a, b) = (node("a", 1), node("b", 7));
        let expired = |leadership, nodes: &[&NodeSpec], tenths| {
            let expired = liveness.expired(leadership, nodes.iter().copied(), at(tenths)).into_iter();
            expired.map(|(id, incarnation)| format!("{id}/{incarnation}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(expired(1, &[&a, &b], 0), "");
        liveness.renew(1, &a.id, a.incarnation, at(10));
        assert_eq!(expired(1, &[&a, &b], 19), "");
        assert_eq!(expired(1, &[&a, &b], 20), "b/7");
        assert_eq!(liveness.left(1, &a.id, at(25)), Some(Duration::from_millis(500)));
        assert_eq!(liveness.left(1, &a.id, at(30)), None);
        assert_eq!(expired(2, &[&a, &b], 20), "", "another leadership begins anew");
        assert_eq!(expired(2, &[&a, &b], 39), "");
        assert_eq!(expired(2, &[&node("a", 2), &b], 40), "b/7", "another incarnation has its own lease");
        assert_eq!(expired(2, &[&node("a", 2)], 41), "");
        assert_eq!(expired(2, &[&node("a", 2), &b], 42), "", "who left and came back begins anew");
        liveness.forgive(Duration::from_secs(1));
        assert_eq!(expired(2, &[&node("a", 2)], 69), "", "a second in which nobody was heard does not count");
        assert_eq!(expired(2, &[&node("a", 2)], 70), "a/2");
    }
}
