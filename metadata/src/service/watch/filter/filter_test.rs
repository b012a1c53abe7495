//! A watcher of one model, through histories drawn from seeds: of every holder that it counts in, it has exactly the blocks that the
//! directory has; and it counts in all that belong to its model.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use weft_index::{Change, Report, ReportForm, Run};
use weft_metadata_proto::v1::{BlockList, CutOff, Selection, WatchFilter, WatchItem};
use weft_metadata_state::{Command, Directory, DirectoryChange, Outcome};
use weft_types::rpc::Message;
use weft_types::{
    BlockSize, ByteSize, Contract, EndpointSpec, HolderGrant, HolderId, Incarnation, IndexKey, LogTime, ModelKey,
    NodeSpec, Part, Tier,
};

use super::Filter;

const AT: LogTime = LogTime::ZERO;
const NAMES: u32 = 4;
const BLOCKS: u64 = 200;

/// A directory and every item since its beginning: item `n` is of log index `n + 1`.
struct Member {
    directory: Directory,
    items: Vec<Arc<WatchItem>>,
    granted: Vec<(HolderGrant, u64)>,
}

/// What a follower keeps.
struct Watcher {
    index: u64,
    selection: Selection,
    blocks: BTreeMap<HolderId, BTreeSet<IndexKey>>,
    filter: Filter,
    bytes: usize,
    snapshots: u32,
}

fn contract(model: &str) -> Contract {
    let model_key = ModelKey {
        model: model.into(),
        revision: "1".into(),
        adapter: String::new(),
        salt: String::new(),
        layout: "test".into(),
        block_tokens: BlockSize::DEFAULT,
    };
    let parts = vec![Part { bytes: 4096, ranks: vec![0] }];
    Contract {
        model_key,
        parts,
        aliases: vec![format!("{model}-alias")],
        tokenizer: String::new(),
        chat_template: String::new(),
    }
}

fn key(number: u64) -> IndexKey {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    IndexKey::from_bytes(bytes)
}

impl Member {
    fn apply(&mut self, command: Command) {
        let index = self.items.len() as u64 + 1;
        let applied = self.directory.apply_at(index, command);
        if let Outcome::Granted(grants) = applied.outcome {
            self.granted.extend(grants.into_iter().map(|grant| (grant, 0)));
        }
        self.items.push(Arc::new(WatchItem::Changes { index, changes: applied.changes }));
    }

    fn step(&mut self, random: &mut ChaCha8Rng) {
        let name = |random: &mut ChaCha8Rng, letter| format!("{letter}{}", random.random_range(0..NAMES));
        let incarnation = Incarnation::new(self.items.len() as u64 + 1);
        match random.random_range(0..24) {
            0 | 1 => {
                let capacity =
                    BTreeMap::from([(Tier::Host, ByteSize::from_mib(1)), (Tier::Disk, ByteSize::from_mib(1))]);
                let node = NodeSpec {
                    id: name(random, "n").parse().unwrap(),
                    incarnation,
                    fabric: "127.0.0.1:1".parse().unwrap(),
                    bulk: "127.0.0.1:2".parse().unwrap(),
                    capacity,
                    labels: BTreeMap::new(),
                };
                self.apply(Command::Join { at: AT, node });
            }
            2 => {
                let node = name(random, "n").parse().unwrap();
                if let Some(incarnation) = self.directory.roster().nodes.get(&node).map(|node| node.incarnation) {
                    self.apply(Command::Expire { at: AT, node, incarnation });
                }
            }
            3 | 4 => {
                let models = ["a", "b", "c"].map(contract);
                let first = random.random_range(0..3);
                let many = if random.random_bool(0.2) { 2 } else { 1 };
                let endpoint = EndpointSpec {
                    id: name(random, "e").parse().unwrap(),
                    incarnation,
                    url: "http://e".into(),
                    node: random.random_bool(0.8).then(|| name(random, "n").parse().unwrap()),
                    ranks: 1,
                    contracts: models.iter().cycle().skip(first).take(many).cloned().collect(),
                };
                self.apply(Command::PutEndpoint { at: AT, endpoint });
            }
            5 => {
                let endpoint = name(random, "e").parse().unwrap();
                self.apply(Command::RemoveEndpoint { at: AT, endpoint, incarnation });
            }
            6 | 7 => self.apply(Command::Sweep { at: AT, budget: 100_000 }),
            _ if self.granted.is_empty() => {}
            _ => {
                let recent = self.granted.len().saturating_sub(12);
                let at = random.random_range(recent..self.granted.len());
                let change =
                    |block: u64, stored| if stored { Change::Stored(key(block)) } else { Change::Removed(key(block)) };
                let changes = (0..random.random_range(1..20))
                    .map(|_| change(random.random_range(0..BLOCKS), random.random_bool(0.7)))
                    .collect();
                let (grant, number) = &mut self.granted[at];
                *number += 1;
                let HolderGrant { holder, generation, incarnation, .. } = *grant;
                let form = ReportForm::default();
                let report = Report { holder, generation, incarnation, number: *number, form, changes };
                self.apply(Command::Reports { at: AT, reports: vec![report] });
            }
        }
    }

    fn index(&self) -> u64 {
        self.items.len() as u64
    }

    fn blocks(&mut self) -> BTreeMap<HolderId, BTreeSet<IndexKey>> {
        let mut blocks: BTreeMap<HolderId, BTreeSet<IndexKey>> = BTreeMap::new();
        self.directory.freeze().into_blocks().for_each(|run| take_run(&mut blocks, &run));
        blocks
    }
}

fn take_run(blocks: &mut BTreeMap<HolderId, BTreeSet<IndexKey>>, run: &Run) {
    for holder in &run.holders {
        blocks.entry(*holder).or_default().extend(&run.keys);
    }
}

fn asked(holders: BTreeSet<HolderId>) -> WatchFilter {
    // By one name and by one alias.
    WatchFilter { models: ["a".to_owned(), "c-alias".to_owned()].into(), holders }
}

impl Watcher {
    fn begin(member: &mut Member) -> Self {
        let roster = member.directory.roster().clone();
        let mut filter = Filter::new(&asked(BTreeSet::new()), &roster, member.index());
        let (mut blocks, mut bytes) = (BTreeMap::new(), 0);
        let runs = member.directory.freeze().into_blocks().filter_map(|run| filter.run(run));
        for list in BlockList::pieces(runs) {
            list.runs().for_each(|run| take_run(&mut blocks, &run));
            bytes += WatchItem::SnapshotBlocks(list).encode().len();
        }
        let selection = Selection::new(asked(BTreeSet::new()).models, &roster);
        Self { index: member.index(), selection, blocks, filter, bytes, snapshots: 1 }
    }

    /// Takes up to `count` items; an item as it is sent.
    fn follow(&mut self, member: &mut Member, count: usize) {
        let from = usize::try_from(self.index).unwrap();
        for item in member.items[from..].iter().take(count) {
            match self.filter.item(Cow::Borrowed(item)) {
                Ok(Some(told)) => {
                    self.bytes += told.encode().len();
                    let WatchItem::Changes { changes, .. } = &*told else { unreachable!() };
                    changes.iter().for_each(|change| self.change(change));
                }
                Ok(None) => {}
                Err(reason) => {
                    assert_eq!(reason, CutOff::Filter);
                    let (bytes, snapshots) = (self.bytes, self.snapshots + 1);
                    *self = Self::begin(member);
                    (self.bytes, self.snapshots) = (self.bytes + bytes, snapshots);
                    return;
                }
            }
            self.index += 1;
        }
    }

    fn change(&mut self, change: &DirectoryChange) {
        self.selection.change(change);
        match change {
            DirectoryChange::Blocks(report) => {
                let blocks = self.blocks.entry(report.holder).or_default();
                for change in &report.changes {
                    match change {
                        Change::Stored(key) => _ = blocks.insert(*key),
                        Change::Removed(key) => _ = blocks.remove(key),
                    }
                }
            }
            DirectoryChange::HolderRetired(holder) => _ = self.blocks.remove(holder),
            _ => {}
        }
    }

    /// Goes on at another member, from where it is.
    fn resume(&mut self, member: &mut Member) {
        let from = usize::try_from(self.index).unwrap();
        let asked = asked(self.selection.chosen().clone());
        match Filter::resume(&asked, member.directory.roster(), member.index(), &member.items[from..]) {
            Some(filter) => self.filter = filter,
            None => {
                let (bytes, snapshots) = (self.bytes, self.snapshots + 1);
                *self = Self::begin(member);
                (self.bytes, self.snapshots) = (self.bytes + bytes, snapshots);
            }
        }
    }

    fn check(&self, member: &mut Member, seed: u64) {
        let roster = member.directory.roster().clone();
        let belong = Selection::new(asked(BTreeSet::new()).models, &roster);
        assert!(
            belong.chosen().is_subset(self.selection.chosen()),
            "seed {seed}: {belong:?}, has {:?}",
            self.selection
        );
        let there = member.blocks();
        for holder in self.selection.chosen() {
            let (here, there) = (self.blocks.get(holder), there.get(holder));
            let none = BTreeSet::new();
            assert_eq!(here.unwrap_or(&none), there.unwrap_or(&none), "seed {seed}: holder {holder} at {}", self.index);
        }
    }
}

#[test]
fn a_watcher_of_some_models_has_every_block_of_theirs_and_nothing_wrong() {
    let (mut told, mut whole, mut begun, mut resumed) = (0, 0, 0, 0);
    for seed in 0..150 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut member = Member { directory: Directory::new(), items: Vec::new(), granted: Vec::new() };
        let before = random.random_range(0..100);
        (0..before).for_each(|_| member.step(&mut random));
        let mut watcher = Watcher::begin(&mut member);
        let from = member.items.len();
        for _ in 0..60 {
            for _ in 0..random.random_range(0..8) {
                member.step(&mut random);
            }
            if random.random_bool(0.2) {
                watcher.follow(&mut member, random.random_range(0..4));
                let snapshots = watcher.snapshots;
                watcher.resume(&mut member);
                resumed += u32::from(watcher.snapshots == snapshots);
            }
            if random.random_bool(0.6) {
                watcher.follow(&mut member, usize::MAX);
                watcher.check(&mut member, seed);
            }
        }
        begun += watcher.snapshots - 1;
        told += watcher.bytes;
        whole += member.items[from..].iter().map(|item| item.encode().len()).sum::<usize>();
    }
    assert!(begun > 50 && resumed > 50, "{begun} snapshots and {resumed} resumptions: one of them was hardly tried");
    assert!(told < whole, "{told} bytes were told of {whole}");
}
