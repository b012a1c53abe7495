//! Generated histories: what happens to the world, drawn from the seed.

use std::time::Duration;

use rand::Rng;
use rand::seq::IndexedRandom;
use weft_index::Change;

use crate::node::{Mishap, Which};
use crate::world::World;

/// Longest pause between two things that happen.
const PAUSE_MAX: Duration = Duration::from_millis(400);

/// Steps after which the group has formed, mostly.
const FORMED_BY: usize = 10;

/// Something that will be mended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mend {
    StartMember(u64),
    StartNode(usize),
    Heal,
}

/// Runs `steps` things that happen, and what mends them.
pub(crate) async fn unfold(world: &mut World, steps: usize) {
    let mut due: Vec<(usize, Mend)> = Vec::new();
    for step in 0..steps {
        if step == FORMED_BY {
            world.turn();
        }
        world.advance().await;
        let pause = world.random.random_range(Duration::ZERO..PAUSE_MAX);
        world.pass(pause).await;
        let now: Vec<Mend> = due.extract_if(.., |(at, _)| *at <= step).map(|(_, mend)| mend).collect();
        for mend in now {
            self::mend(world, mend).await;
        }
        if let Some((after, mend)) = happen(world).await {
            due.push((step + after, mend));
        }
        if world.chronicle.is_violated() {
            return;
        }
    }
}

async fn mend(world: &mut World, mend: Mend) {
    world.chronicle.note(format_args!("{mend:?}"));
    match mend {
        Mend::StartMember(id) if world.may_start(id) => world.start_member(id).await,
        Mend::StartNode(at) if !world.nodes[at].is_up() => world.nodes[at].start(),
        Mend::StartMember(_) | Mend::StartNode(_) => {}
        Mend::Heal => world.weather.heal(),
    }
}

/// One thing happens; what mends it, and after how many others.
async fn happen(world: &mut World) -> Option<(usize, Mend)> {
    let soon = world.random.random_range(1..12);
    match world.random.random_range(0..100) {
        0..38 => {
            change(world);
            None
        }
        38..50 => {
            world.look_up();
            None
        }
        50..62 => {
            world.operate();
            None
        }
        62..68 => {
            let at = world.random.random_range(0..world.nodes.len());
            world.engine_lives += 1;
            world.chronicle.note(format_args!("an engine comes or goes at {}", world.nodes[at].id));
            world.nodes[at].toggle_engine(world.engine_lives);
            None
        }
        68..76 => {
            let at = world.random.random_range(0..world.nodes.len());
            let leaves = world.random.random_bool(0.3);
            world.chronicle.note(format_args!("{} {}", world.nodes[at].id, if leaves { "leaves" } else { "crashes" }));
            if leaves {
                world.nodes[at].leave()
            } else {
                world.nodes[at].crash()
            }
            Some((soon, Mend::StartNode(at)))
        }
        76..85 => {
            let up = world.members_up();
            let random = up.choose(&mut world.random).copied();
            let victim = if world.random.random_bool(0.6) { world.leader().or(random) } else { random }?;
            in_the_midst(world);
            let stops = world.random.random_bool(0.2);
            world.chronicle.note(format_args!("member {victim} {}", if stops { "stops" } else { "loses power" }));
            if stops {
                world.stop_member(victim).await
            } else {
                world.crash_member(victim).await
            }
            Some((soon, Mend::StartMember(victim)))
        }
        85..89 => {
            world.change_group();
            None
        }
        89..91 => {
            world.hand_over();
            None
        }
        91..98 => {
            in_the_midst(world);
            cut(world);
            Some((soon, Mend::Heal))
        }
        _ => {
            world.chronicle.note("the router restarts");
            world.start_router();
            None
        }
    }
}

/// What goes wrong next goes wrong while something is asked and reported: so is found what was acknowledged too early.
fn in_the_midst(world: &mut World) {
    if world.random.random_bool(0.5) {
        world.operate();
    }
    if world.random.random_bool(0.5) {
        change(world);
    }
}

/// Blocks come and go, and now and then what is to be told of it is lost.
fn change(world: &mut World) {
    let up: Vec<usize> = (0..world.nodes.len()).filter(|at| world.nodes[*at].is_up()).collect();
    let Some(at) = up.choose(&mut world.random).copied() else { return };
    let which = if world.random.random_bool(0.6) { Which::Host } else { Which::Engine };
    let count = world.random.random_range(1..20);
    let changes: Vec<Change> = (0..count)
        .map(|_| {
            let block = world.blocks[world.random.random_range(0..world.blocks.len())];
            if world.random.random_bool(0.6) { Change::Stored(block) } else { Change::Removed(block) }
        })
        .collect();
    let mishap = match world.random.random_range(0..100) {
        0..12 => Some(Mishap::Unnoticed),
        12..18 => Some(Mishap::Overflow),
        _ => None,
    };
    let node = &world.nodes[at];
    world.chronicle.note(format_args!("{} has {count} changes of its {which:?}, {mishap:?}", node.id));
    match mishap {
        Some(mishap) => node.suffer(which, mishap, &changes),
        None => node.change(which, &changes),
    }
}

/// One is cut off from all, or some from some, in both directions or in one.
fn cut(world: &mut World) {
    let addrs = world.addrs();
    let one_way = world.random.random_bool(0.3);
    let alone = world.random.random_bool(0.5);
    let leader = world.leader().and_then(|leader| addrs.get(usize::try_from(leader - 1).ok()?).copied());
    let aside: Vec<_> = match alone {
        true => {
            let anybody = addrs.choose(&mut world.random).copied();
            let one = if world.random.random_bool(0.5) { leader.or(anybody) } else { anybody };
            one.into_iter().collect()
        }
        false => addrs.iter().copied().filter(|_| world.random.random_bool(0.4)).collect(),
    };
    world.chronicle.note(format_args!("cut {} {aside:?}", if one_way { "one way" } else { "off" }));
    for from in &aside {
        for to in addrs.iter().filter(|to| !aside.contains(to)) {
            world.weather.cut(*from, *to);
            if !one_way {
                world.weather.cut(*to, *from);
            }
        }
    }
}
