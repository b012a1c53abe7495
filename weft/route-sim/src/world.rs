//! The events of a run, in the order of virtual time.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::device::Device;
use crate::engine::{Decoding, Engine, Prefill, Queued};
use crate::index::{Index, Place};
use crate::links::Links;
use crate::order::Order;
use crate::view::{Choice, EngineView, Peer, Rule, View};
use crate::{Run, Setup, Workload};

/// Something at a time; the earliest is the greatest, as a heap wants it.
#[derive(Debug)]
pub(crate) struct At<T> {
    pub(crate) at: f64,
    /// Among equals, the least comes first.
    pub(crate) order: u64,
    pub(crate) what: T,
}

#[derive(Debug)]
enum Event {
    /// A request arrives.
    Arrives(usize),
    /// What a request of a replica waited for has come.
    Ready(usize),
    /// A replica's prefill is done.
    Computed(usize),
    /// The next request of a replica's batch ends, if the batch is still of this version.
    Ends(usize, u64),
}

/// Replays a workload under a rule. `seed` is of the dice that break ties.
pub fn simulate(setup: &Setup, workload: &Workload, rule: &mut dyn Rule, seed: u64) -> Run {
    let mut world = World::new(setup, workload, rule.pools_memory(), seed);
    for (number, request) in workload.requests.iter().enumerate().filter(|(_, request)| request.first) {
        world.schedule(request.after_s, Event::Arrives(number));
    }
    while let Some(event) = world.events.pop() {
        world.now_s = event.at;
        match event.what {
            Event::Arrives(number) => world.arrives(number, rule),
            Event::Ready(replica) => world.compute(replica),
            Event::Computed(replica) => world.computed(replica, rule),
            Event::Ends(replica, version) if version == world.engines[replica].batch.version => {
                world.ends(replica, rule);
            }
            Event::Ends(..) => {}
        }
    }
    world.finish()
}

struct World<'a> {
    setup: &'a Setup,
    workload: &'a Workload,
    now_s: f64,
    events: BinaryHeap<At<Event>>,
    scheduled: u64,
    engines: Vec<Engine>,
    /// By replica; one for all where memory is pooled.
    devices: Vec<Device>,
    hosts: Vec<HostTier>,
    links: Links,
    index: Index,
    dice: ChaCha8Rng,
    arrived_s: Vec<f64>,
    views: Vec<EngineView>,
    run: Run,
}

/// Blocks in a node's host memory.
struct HostTier {
    order: Order,
    capacity: usize,
}

impl<'a> World<'a> {
    fn new(setup: &'a Setup, workload: &'a Workload, pooled: bool, seed: u64) -> Self {
        assert!(
            (1..=Setup::REPLICAS_MAX).contains(&setup.replicas),
            "{} replicas: expected 1 to {}",
            setup.replicas,
            Setup::REPLICAS_MAX
        );
        let blocks_of = |tokens: u64| (tokens / u64::from(workload.block_tokens)) as usize;
        let own = blocks_of(setup.engine.device_tokens);
        let host = setup.host.map_or(0, |host| blocks_of(host.tokens));
        let (devices, capacity) = if pooled { (1, (own + host) * setup.replicas) } else { (setup.replicas, own) };
        let host_tier = |_| HostTier { order: Order::new(workload.blocks), capacity: host };
        Self {
            setup,
            workload,
            now_s: 0.0,
            events: BinaryHeap::new(),
            scheduled: 0,
            engines: (0..setup.replicas).map(|_| Engine::default()).collect(),
            devices: (0..devices).map(|_| Device::new(capacity, workload.blocks)).collect(),
            hosts: if host > 0 && !pooled { (0..setup.replicas).map(host_tier).collect() } else { Vec::new() },
            links: Links::new(setup),
            index: Index::new(workload.blocks, setup.index_lag_s),
            dice: ChaCha8Rng::seed_from_u64(seed),
            arrived_s: vec![0.0; workload.requests.len()],
            views: Vec::with_capacity(setup.replicas),
            run: Run { busy_s: Vec::new(), ..Run::default() },
        }
    }

    fn schedule(&mut self, at: f64, what: Event) {
        self.scheduled += 1;
        self.events.push(At { at, order: self.scheduled, what });
    }

    fn device(&self, replica: usize) -> usize {
        replica.min(self.devices.len() - 1)
    }

    fn arrives(&mut self, number: usize, rule: &mut dyn Rule) {
        self.arrived_s[number] = self.now_s;
        self.index.catch_up(self.now_s);
        let mut views = std::mem::take(&mut self.views);
        views.clear();
        views.extend((0..self.setup.replicas).map(|replica| self.view(replica, number)));
        let dice = self.dice.next_u64();
        let choice = rule.route(
            &View {
                now_s: self.now_s,
                setup: self.setup,
                number,
                request: &self.workload.requests[number],
                block_tokens: self.workload.block_tokens,
                engines: &views,
            },
            dice,
        );
        self.enqueue(number, choice, &views);
        self.views = views;
        self.compute(choice.replica);
    }

    fn view(&self, replica: usize, number: usize) -> EngineView {
        let (request, engine) = (&self.workload.requests[number], &self.engines[replica]);
        let device = &self.devices[self.device(replica)];
        let prompt = self.workload.reusable(request);
        let (held, local) = match self.devices.len() {
            1 if self.setup.replicas > 1 => (device.leading(prompt), 0),
            _ => (self.index.device(replica, prompt), self.index.either(replica, prompt)),
        };
        let shared = prompt[..held].iter().take_while(|block| device.is_pinned(**block)).count();
        EngineView {
            in_flight: engine.in_flight,
            queued: engine.queue.len() as u32,
            waiting_tokens: engine.waiting_tokens(),
            wait_s: engine.wait_s(self.now_s),
            used_blocks: device.used(),
            capacity_blocks: device.capacity(),
            used_blocks_after: device.used() + self.total_blocks(number) - shared,
            device_blocks: held,
            local_blocks: local.max(held),
        }
    }

    fn total_blocks(&self, number: usize) -> usize {
        let request = &self.workload.requests[number];
        (request.input_tokens + request.output_tokens).div_ceil(self.workload.block_tokens) as usize
    }

    /// Queues a request, and begins its loads.
    fn enqueue(&mut self, number: usize, choice: Choice, views: &[EngineView]) {
        let replica = choice.replica;
        let workload = self.workload;
        let prompt = workload.reusable(&workload.requests[number]);
        let device = self.devices[self.device(replica)].leading(prompt);
        let local = self.local(replica, prompt);
        let mut ready_s = self.now_s;
        if local > device {
            ready_s = self.links.load(self.now_s, replica, self.bytes(local - device));
        }
        let fetched = self.fetch(number, choice, local, views);
        let source = match choice.peer {
            Peer::From(peer) => Some(peer),
            _ => self.source(replica, prompt, fetched.end),
        };
        if let Some(source) = source.filter(|_| !fetched.is_empty()) {
            let (from, to) = (fetched.start, fetched.end);
            ready_s = ready_s.max(self.links.fetch(self.now_s, source, replica, self.bytes(to - from)));
        }
        let reach = local.max(fetched.end);
        let expected_tokens = self.uncached(number, reach);
        let expected_s = self.compute_s(expected_tokens);
        if ready_s > self.now_s {
            self.schedule(ready_s, Event::Ready(replica));
        }
        let engine = &mut self.engines[replica];
        engine.in_flight += 1;
        let loaded = device..local;
        engine.queue.push_back(Queued { number, ready_s, loaded, fetched, expected_tokens, expected_s });
    }

    /// Blocks that are fetched: what the index promises, as far as it is true.
    fn fetch(&self, number: usize, choice: Choice, local: usize, views: &[EngineView]) -> std::ops::Range<usize> {
        let replica = choice.replica;
        if self.setup.peer_bytes_per_s == 0.0 || choice.peer == Peer::Never || self.devices.len() == 1 {
            return local..local;
        }
        let prompt = self.workload.reusable(&self.workload.requests[number]);
        if let Peer::From(peer) = choice.peer {
            return local..self.local(peer, prompt).min(views[peer].local_blocks).max(local);
        }
        let others = || (0..self.setup.replicas).filter(|other| *other != replica);
        let promised = others().map(|other| views[other].local_blocks).max().unwrap_or(0);
        let reach = others().map(|other| self.local(other, prompt)).max().unwrap_or(0).min(promised);
        if reach <= local {
            return local..local;
        }
        let fetch_s = self
            .source(replica, prompt, reach)
            .map_or(f64::INFINITY, |from| self.links.fetched_at(self.now_s, from, replica, self.bytes(reach - local)));
        let wait_s = views[replica].wait_s;
        let with = wait_s.max(fetch_s - self.now_s) + self.compute_s(self.uncached(number, reach));
        let without = wait_s + self.compute_s(self.uncached(number, local));
        if with < without { local..reach } else { local..local }
    }

    /// Who can send these blocks first.
    fn source(&self, to: usize, prompt: &[u32], reach: usize) -> Option<usize> {
        let have = |other: &usize| *other != to && self.local(*other, prompt) >= reach;
        let when = |other: &usize| self.links.fetched_at(self.now_s, *other, to, 0.0);
        (0..self.setup.replicas).filter(have).min_by(|a, b| when(a).total_cmp(&when(b)))
    }

    /// Leading blocks that a replica really has, in device or host memory.
    fn local(&self, replica: usize, prompt: &[u32]) -> usize {
        let device = &self.devices[self.device(replica)];
        let host = self.hosts.get(replica);
        let held = |block: &u32| device.contains(*block) || host.is_some_and(|host| host.order.contains(*block));
        prompt.partition_point(held)
    }

    fn bytes(&self, blocks: usize) -> f64 {
        blocks as f64 * f64::from(self.workload.block_tokens) * self.setup.engine.kv_bytes
    }

    fn uncached(&self, number: usize, reach: usize) -> u64 {
        let cached = reach as u64 * u64::from(self.workload.block_tokens);
        u64::from(self.workload.requests[number].input_tokens).saturating_sub(cached).max(1)
    }

    fn compute_s(&self, tokens: u64) -> f64 {
        self.setup.engine.overhead_s + tokens as f64 / self.setup.engine.prefill_tokens_per_s
    }

    /// Begins the next prefill of a replica, if it is idle and there is one whose loads have come and that fits.
    fn compute(&mut self, replica: usize) {
        let engine = &self.engines[replica];
        let ready = |queued: &Queued| queued.ready_s <= self.now_s;
        let Some(position) = engine.queue.iter().position(ready).filter(|_| engine.prefill.is_none()) else { return };
        let number = engine.queue[position].number;
        let (workload, total) = (self.workload, self.total_blocks(number));
        let prompt = workload.reusable(&workload.requests[number]);
        let device = self.device(replica);
        let hit = self.devices[device].leading(prompt);
        let local = self.local(replica, prompt);
        let mut evicted = Vec::new();
        let Some(held) = self.devices[device].admit(prompt, hit, total, &mut evicted) else { return };
        self.index.report(self.now_s, replica, Place::Device, &evicted, false);
        let Some(queued) = self.engines[replica].queue.remove(position) else { return };
        // What was loaded while it waited is there; what has left the device since is loaded now.
        let late = (hit..local).filter(|block| !queued.loaded.contains(block)).count();
        let fetched = if queued.fetched.start <= local { queued.fetched.end.max(local) } else { local };
        let tokens = self.uncached(number, fetched);
        let engine = &mut self.engines[replica];
        let slower = 1.0 + self.setup.engine.slowdown * engine.batch.len() as f64;
        let mut took_s =
            (self.setup.engine.overhead_s + tokens as f64 / self.setup.engine.prefill_tokens_per_s) * slower;
        engine.busy_s += took_s;
        if late > 0 {
            let bytes = late as f64 * f64::from(workload.block_tokens) * self.setup.engine.kv_bytes;
            took_s += self.links.load_s(bytes);
        }
        let Queued { expected_tokens, expected_s, .. } = queued;
        engine.prefill = Some(Prefill { number, held, began_s: self.now_s, expected_tokens, expected_s });
        self.count(number, hit, local, fetched);
        self.schedule(self.now_s + took_s, Event::Computed(replica));
    }

    fn count(&mut self, number: usize, hit: usize, local: usize, fetched: usize) {
        let tokens = |blocks: usize| blocks as u64 * u64::from(self.workload.block_tokens);
        let counts = &mut self.run.tokens;
        counts.input += u64::from(self.workload.requests[number].input_tokens);
        counts.device += tokens(hit);
        counts.host += tokens(local - hit);
        counts.peer += tokens(fetched - local);
    }

    fn computed(&mut self, replica: usize, rule: &mut dyn Rule) {
        let Some(Prefill { number, mut held, .. }) = self.engines[replica].prefill.take() else { return };
        let request = &self.workload.requests[number];
        self.run.ttft_s.push(self.now_s - self.arrived_s[number]);
        let mut stored = Vec::new();
        let device = self.device(replica);
        self.devices[device].name(&mut held, &request.blocks, &mut stored);
        self.index.report(self.now_s, replica, Place::Device, &stored, true);
        self.write_through(replica, &request.blocks);
        let model = &self.setup.engine;
        let batch = &mut self.engines[replica].batch;
        batch.join(self.now_s, Decoding { number, held }, request.output_tokens, model);
        rule.first_token(self.now_s, number);
        self.forecast(replica);
        self.compute(replica);
    }

    fn write_through(&mut self, replica: usize, prompt: &[u32]) {
        let Some(host) = self.hosts.get_mut(replica) else { return };
        let (mut stored, mut evicted) = (Vec::new(), Vec::new());
        for block in prompt.iter().rev() {
            if !host.order.remove(*block) {
                stored.push(*block);
            }
            host.order.push(*block);
        }
        while host.order.len() > host.capacity {
            let Some(victim) = host.order.oldest() else { break };
            host.order.remove(victim);
            evicted.push(victim);
        }
        self.index.report(self.now_s, replica, Place::Host, &stored, true);
        self.index.report(self.now_s, replica, Place::Host, &evicted, false);
    }

    fn ends(&mut self, replica: usize, rule: &mut dyn Rule) {
        let model = &self.setup.engine;
        let Some(Decoding { number, held }) = self.engines[replica].batch.leave(self.now_s, model) else { return };
        self.engines[replica].in_flight -= 1;
        let request = &self.workload.requests[number];
        let device = self.device(replica);
        self.devices[device].release(&held, &request.blocks);
        rule.ended(self.now_s, number);
        if let Some(next) = request.next {
            self.schedule(self.now_s + self.workload.requests[next].after_s, Event::Arrives(next));
        }
        self.forecast(replica);
        match self.devices.len() {
            1 => (0..self.setup.replicas).for_each(|replica| self.compute(replica)),
            _ => self.compute(replica),
        }
    }

    fn forecast(&mut self, replica: usize) {
        let batch = &self.engines[replica].batch;
        let version = batch.version;
        if let Some(at) = batch.next_end_s(&self.setup.engine) {
            self.schedule(at.max(self.now_s), Event::Ends(replica, version));
        }
    }

    fn finish(mut self) -> Run {
        self.run.ttft_s.sort_by(f64::total_cmp);
        self.run.busy_s = self.engines.iter().map(|engine| engine.busy_s).collect();
        let last = self.arrived_s.iter().copied().fold(0.0, f64::max);
        self.run.span_s = last - self.arrived_s.iter().copied().fold(last, f64::min);
        self.run.fetched_bytes = self.links.fetched_bytes;
        self.run
    }
}

impl<T> Ord for At<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.at.total_cmp(&self.at).then(other.order.cmp(&self.order))
    }
}

impl<T> PartialOrd for At<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for At<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for At<T> {}
