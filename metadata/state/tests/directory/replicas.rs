//! Replicas that apply the same commands are the same, whatever way they came to their state.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use weft_index::{Change, Digests, PartitionId, Partitions, Report, ReportForm};
use weft_metadata_state::{Command, Directory, Limits, Outcome, ReportAck};
use weft_types::{Generation, HolderId, Incarnation, IndexKey, LeaseId, LogTime, OperatorAction};

use crate::actors::{endpoint, grant_lease, key, node, operator, put_tenant, report};

const NODES: [&str; 3] = ["a", "b", "c"];
const ENDPOINTS: [&str; 3] = ["e", "f", "g"];
const KEYS: u8 = 40;

/// A report of a holder picked from those ever granted: its next number, or one that is off by this much, its form, and
/// blocks stored or removed.
type Pick = (prop::sample::Index, i8, ReportForm, Vec<(u8, bool)>);

/// A command, where it can be chosen without knowing the state.
#[derive(Clone, Debug)]
enum Intent {
    Join(usize, u64),
    Leave(usize, u64),
    Put(usize, u64, Option<usize>, bool),
    Remove(usize, u64),
    Reports(Vec<Pick>),
    Sweep(u32),
    Limit(u64),
    Tenant(usize, bool),
    Lease(usize, Vec<u8>, u64),
    Lengthen(u64, u64),
    Release(u64),
    Ends,
}

fn any_form() -> impl Strategy<Value = ReportForm> {
    let run = (0u16..4096, 0u16..128).prop_map(|(first, more)| {
        let at = |number: u16| PartitionId::new(number.min(4095)).unwrap();
        Partitions::new(at(first), at(first + more)).unwrap()
    });
    let replaces = prop_oneof![6 => Just(None), 1 => run.prop_map(Some)];
    (replaces, prop::bool::weighted(0.1)).prop_map(|(replaces, continues)| ReportForm { replaces, continues })
}

fn any_intent() -> impl Strategy<Value = Intent> {
    let incarnation = 1u64..4;
    let one_report = (any::<prop::sample::Index>(), prop_oneof![8 => Just(0i8), 1 => -2i8..3], any_form(), {
        prop::collection::vec((0..KEYS, prop::bool::weighted(0.7)), 0..12)
    });
    prop_oneof![
        3 => (0..3usize, incarnation.clone()).prop_map(|(n, i)| Intent::Join(n, i)),
        1 => (0..3usize, incarnation.clone()).prop_map(|(n, i)| Intent::Leave(n, i)),
        3 => (0..3usize, incarnation.clone(), prop::option::of(0..3usize), prop::bool::weighted(0.1))
            .prop_map(|(e, i, n, odd)| Intent::Put(e, i, n, odd)),
        1 => (0..3usize, incarnation).prop_map(|(e, i)| Intent::Remove(e, i)),
        12 => prop::collection::vec(one_report, 1..5).prop_map(Intent::Reports),
        3 => prop_oneof![3 => 1u32..20, 1 => Just(5000)].prop_map(Intent::Sweep),
        1 => (10u64..60).prop_map(Intent::Limit),
        1 => (0..3usize, prop::bool::weighted(0.8)).prop_map(|(t, there)| Intent::Tenant(t, there)),
        4 => (0..3usize, prop::collection::vec(0..KEYS, 1..8), 1u64..60).prop_map(|(t, b, s)| Intent::Lease(t, b, s)),
        1 => (1u64..9, 1u64..60).prop_map(|(l, s)| Intent::Lengthen(l, s)),
        1 => (1u64..9).prop_map(Intent::Release),
        2 => Just(Intent::Ends),
    ]
}

/// What reports should have led to, told apart from how the directory keeps it.
#[derive(Default)]
struct Model {
    granted: Vec<weft_types::HolderGrant>,
    next: BTreeMap<(HolderId, Generation), u64>,
}

impl Model {
    fn command(&self, intent: &Intent, number: u64) -> Command {
        // A second apart, so that leases end on the way.
        let micros = number * 1_000_000 + number % 2;
        let at = LogTime::from_micros(micros);
        let lease = |number: u64| LeaseId::new(number);
        match intent {
            Intent::Join(n, i) => Command::Join { at, node: node(NODES[*n], *i) },
            Intent::Leave(n, i) => {
                let (node, incarnation) = (NODES[*n].parse().unwrap(), Incarnation::new(*i));
                if at.as_micros().is_multiple_of(2) {
                    return Command::Leave { at, node, incarnation };
                }
                Command::Expire { at, node, incarnation }
            }
            Intent::Put(e, i, n, odd) => {
                let mut endpoint = endpoint(ENDPOINTS[*e], *i, n.map(|n| NODES[n]));
                endpoint.contracts[0].parts[0].bytes += u64::from(*odd);
                Command::PutEndpoint { at, endpoint }
            }
            Intent::Remove(e, i) => {
                let (endpoint, incarnation) = (ENDPOINTS[*e].parse().unwrap(), Incarnation::new(*i));
                Command::RemoveEndpoint { at, endpoint, incarnation }
            }
            Intent::Reports(picks) => {
                let mut reports = Vec::new();
                for (pick, off, form, changes) in picks.iter().filter(|_| !self.granted.is_empty()) {
                    let grant = &self.granted[pick.index(self.granted.len())];
                    let next = self.next.get(&(grant.holder, grant.generation)).map_or(1, |last| last + 1);
                    let change = |(n, stored): &(u8, bool)| match (stored, form.replaces) {
                        (_, Some(run)) if !run.contains(PartitionId::of(&key(*n))) => None,
                        (false, None) => Some(Change::Removed(key(*n))),
                        _ => Some(Change::Stored(key(*n))),
                    };
                    let number = next.saturating_add_signed(i64::from(*off));
                    let changes = changes.iter().filter_map(change).collect();
                    reports.push(Report { form: *form, ..report(grant, number, changes) });
                }
                Command::Reports { at, reports }
            }
            Intent::Tenant(t, true) => operator(micros, number, put_tenant(NODES[*t], 12)),
            Intent::Tenant(t, false) => {
                operator(micros, number, OperatorAction::RemoveTenant { tenant: NODES[*t].parse().unwrap() })
            }
            Intent::Lease(t, blocks, seconds) => {
                // Every third request was sent before, by a client that heard no answer.
                let number = if number.is_multiple_of(3) { number.saturating_sub(1) } else { number };
                operator(micros, number, grant_lease(NODES[*t], blocks.iter().copied(), *seconds))
            }
            Intent::Lengthen(number_of, seconds) => {
                let ttl = Duration::from_secs(*seconds);
                operator(micros, number, OperatorAction::RenewLease { lease: lease(*number_of), ttl })
            }
            Intent::Release(number_of) => {
                operator(micros, number, OperatorAction::ReleaseLease { lease: lease(*number_of) })
            }
            Intent::Ends => Command::ExpireLeases { at },
            Intent::Sweep(budget) => Command::Sweep { at, budget: *budget },
            Intent::Limit(blocks) => Command::SetLimits { at, limits: Limits { blocks: *blocks, ..Limits::default() } },
        }
    }

    fn learn(&mut self, command: &Command, outcome: &Outcome) {
        match (command, outcome) {
            (_, Outcome::Granted(grants)) => self.granted.extend(grants.iter().cloned()),
            (Command::Reports { reports, .. }, Outcome::Reports(acks)) => {
                for (report, ack) in reports.iter().zip(acks) {
                    if let ReportAck::Applied { number } | ReportAck::Replaced { number, .. } = ack {
                        self.next.insert((report.holder, report.generation), *number);
                    }
                }
            }
            _ => {}
        }
    }
}

/// Digests of what the index lists of a holder.
fn held_by(directory: &Directory, holder: HolderId) -> Digests {
    let mut digests = Digests::new();
    for (key, holders) in directory.index().entries() {
        if holders.contains(&holder) {
            digests.insert(&key);
        }
    }
    digests
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn replicas_agree_through_log_bytes_and_snapshots(
        intents in prop::collection::vec((any_intent(), prop::bool::weighted(0.1)), 1..120),
    ) {
        let (mut one, mut other, mut model) = (Directory::new(), Directory::new(), Model::default());
        for (at, (intent, restart)) in intents.iter().enumerate() {
            let command = model.command(intent, at as u64);
            let read = Command::decode(&command.encode()).unwrap();
            prop_assert_eq!(&read, &command);
            if *restart {
                other = Directory::restore(&other.snapshot()[..]).unwrap();
            }
            let applied = one.apply(command.clone());
            prop_assert_eq!(&applied, &other.apply(read));
            model.learn(&command, &applied.outcome);
        }
        prop_assert_eq!(one.fingerprint(), other.fingerprint());
        for grant in one.roster().holders.values() {
            let (_, digests) = one.digests(grant.holder, grant.generation).unwrap();
            prop_assert_eq!(digests.groups(), held_by(&one, grant.holder).groups());
            let (_, restored) = other.digests(grant.holder, grant.generation).unwrap();
            prop_assert_eq!((restored.groups(), restored.blocks()), (digests.groups(), digests.blocks()));
        }
        prop_assert_eq!(one.accounts(), other.accounts());
        let snapshot = one.snapshot();
        prop_assert_eq!(Directory::restore(&snapshot[..]).unwrap().fingerprint(), one.fingerprint());
        let mut frozen = Vec::new();
        one.freeze().write(&mut frozen).unwrap();
        prop_assert_eq!(frozen, snapshot);
    }

    #[test]
    fn a_lookup_names_exactly_what_current_lives_reported(
        intents in prop::collection::vec(any_intent(), 1..150),
    ) {
        let (mut directory, mut model) = (Directory::new(), Model::default());
        let mut held: BTreeMap<(HolderId, Generation), BTreeSet<IndexKey>> = BTreeMap::new();
        // Without a limit on blocks, what is held is what was reported.
        for (at, intent) in intents.iter().filter(|intent| !matches!(intent, Intent::Limit(_))).enumerate() {
            let command = model.command(intent, at as u64);
            let outcome = directory.apply(command.clone()).outcome;
            if let (Command::Reports { reports, .. }, Outcome::Reports(acks)) = (&command, &outcome) {
                let mut last = model.next.clone();
                for (report, ack) in reports.iter().zip(acks) {
                    let life = (report.holder, report.generation);
                    let next = last.get(&life).map_or(1, |last| last + 1);
                    let fresh = report.number == next || report.form.continues && report.number > next;
                    let applied = match ack {
                        ReportAck::Applied { number } | ReportAck::Replaced { number, .. } => *number == report.number,
                        _ => false,
                    };
                    if fresh && applied {
                        last.insert(life, report.number);
                        let keys = held.entry(life).or_default();
                        if let Some(run) = report.form.replaces {
                            keys.retain(|key| !run.contains(PartitionId::of(key)));
                        }
                        for change in &report.changes {
                            match change {
                                Change::Stored(key) => keys.insert(*key),
                                Change::Removed(key) => keys.remove(key),
                            };
                        }
                    }
                }
            }
            model.learn(&command, &outcome);

            for number in 0..KEYS {
                let named: BTreeSet<HolderId> = directory.leading(&[key(number)]).iter().map(|m| m.holder).collect();
                let current = directory.roster().holders.values();
                let holds = |grant: &&weft_types::HolderGrant| {
                    held.get(&(grant.holder, grant.generation)).is_some_and(|keys| keys.contains(&key(number)))
                };
                let expected: BTreeSet<HolderId> = current.filter(holds).map(|grant| grant.holder).collect();
                prop_assert_eq!(named, expected);
            }
            for grant in directory.roster().holders.values() {
                let current = match &grant.key {
                    weft_types::HolderKey::Node { node, .. } => directory.roster().nodes[node].incarnation,
                    weft_types::HolderKey::Device { endpoint, .. } => directory.roster().endpoints[endpoint].incarnation,
                };
                prop_assert_eq!(grant.incarnation, current);
            }
        }
    }

    #[test]
    fn a_damaged_snapshot_is_refused(at in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<bool>()) {
        let mut directory = Directory::new();
        crate::actors::join(&mut directory, &node("a", 1));
        let mut bytes = directory.snapshot();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] ^= 1 << bit }
        prop_assert!(Directory::restore(&bytes[..]).is_err());
    }

    #[test]
    fn rubbish_is_no_command_and_does_not_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0u8..11) {
        let _ = Command::decode(&bytes);
        // Past the header, so that each body is met.
        if bytes.len() > 16 {
            bytes[..8].copy_from_slice(&[1, kind, 0, 0, 0, 0, 0, 0]);
            let _ = Command::decode(&bytes);
        }
    }
}
