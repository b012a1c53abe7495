//! Blocks from one node's arena into another's over loopback, as peers fetch them: QUIC, mutual TLS, checksums, one copy.
//! Beside it, in the same run and in turns, quinn with its best settings and nothing else.
//!
//! Each side is a thread with a runtime of its own, as two processes on two cores would be, and the processor time of each is
//! counted. Loopback has no network card: both ends share the machine's cores, so the ratio is what to look at.

mod forwarder;
mod raw;
mod side;

use std::time::Duration;

use serde_json::json;
use weft_service::certs::Ca;

use self::forwarder::Forwarder;
use self::raw::Raw;
use self::side::{Fetched, Receiver, Sender};
use super::form::Bar;
use super::limits;
use super::measure::Effort;
use super::{Measured, params};

/// Blocks of an 8-billion-parameter model at 32 KiB a token, and of one sixteen times as large; and of the simulated one.
const MEDIUM: Size = Size { block_bytes: 2 << 20, source: 128, slots: 96 };
const LARGE: Size = Size { block_bytes: 32 << 20, source: 8, slots: 6 };
const SMALL: Size = Size { block_bytes: 16 << 10, source: 1024, slots: 512 };
/// Blocks of the prefix whose latency is measured.
const PREFIX_BLOCKS: usize = 64;
/// One way through the forwarder: a round trip of a millisecond.
const DELAY: Duration = Duration::from_micros(500);
/// Share of the datagrams that the forwarder loses.
const LOSS: f64 = 0.001;

/// How many blocks are in the source's arena, and how many the other one holds. Both are more than any cache holds.
#[derive(Clone, Copy)]
struct Size {
    block_bytes: usize,
    source: usize,
    slots: usize,
}

/// One cell of the table.
struct Cell {
    ours: &'static str,
    sender_cpu: &'static str,
    receiver_cpu: &'static str,
    size: Size,
    in_flight: usize,
}

const CELLS: [Cell; 4] = [
    Cell {
        ours: "2mib_1_in_flight",
        sender_cpu: "2mib_1_sender_cpu",
        receiver_cpu: "2mib_1_receiver_cpu",
        size: MEDIUM,
        in_flight: 1,
    },
    Cell {
        ours: "2mib_4_in_flight",
        sender_cpu: "2mib_4_sender_cpu",
        receiver_cpu: "2mib_4_receiver_cpu",
        size: MEDIUM,
        in_flight: 4,
    },
    Cell {
        ours: "32mib_1_in_flight",
        sender_cpu: "32mib_1_sender_cpu",
        receiver_cpu: "32mib_1_receiver_cpu",
        size: LARGE,
        in_flight: 1,
    },
    Cell {
        ours: "32mib_4_in_flight",
        sender_cpu: "32mib_4_sender_cpu",
        receiver_cpu: "32mib_4_receiver_cpu",
        size: LARGE,
        in_flight: 4,
    },
];

pub(crate) fn measure(effort: Effort) -> anyhow::Result<Measured> {
    let ca = Ca::create("bench")?;
    let mut bars = Vec::new();
    let mut best = 0.0_f64;
    for cell in &CELLS {
        let pair = pair(effort, &ca, cell)?;
        let gb = |fetched: &Fetched| fetched.bytes_per_s() / 1e9;
        best = best.max(pair.raw.bytes_per_s());
        bars.push(Bar::value(cell.ours, gb(&pair.ours), "GB/s").against(gb(&pair.raw)).at_least(0.9));
        let (ours, raw) = (&pair.ours, &pair.raw);
        let sender = (cell.sender_cpu, ours.sender_ns(), raw.sender_ns());
        let receiver = (cell.receiver_cpu, ours.receiver_ns(), raw.receiver_ns());
        // The goal is on the value; what bare quinn needs stands beside it.
        bars.extend([sender, receiver].map(|(id, ns, raw)| Bar::value(id, ns, "ns/B").at_most(0.9).against(raw)));
    }
    bars.extend(prefix_latency(effort, &ca, best)?);
    bars.extend(small_blocks(effort, &ca)?);
    bars.push(under_loss(effort, &ca)?);
    let size = |size: &Size| json!({"block_bytes": size.block_bytes, "source": size.source, "slots": size.slots});
    let path = json!({"round_trip_us": 2 * DELAY.as_micros() as u64, "loss": LOSS});
    let sizes = json!({"2mib": size(&MEDIUM), "32mib": size(&LARGE), "small": size(&SMALL), "lossy_path": path});
    Ok(Measured { params: params(sizes), bars })
}

/// The median rounds of both.
struct Pair {
    ours: Fetched,
    raw: Fetched,
}

/// Rounds in turns, so that a neighbour who wants the machine too takes it from both.
fn pair(effort: Effort, ca: &Ca, cell: &Cell) -> anyhow::Result<Pair> {
    let sender = Sender::start(ca, cell.size)?;
    let receiver = Receiver::start(ca, cell.size, sender.addr())?;
    let raw = Raw::start(cell.size)?;
    // The first round makes the connection and grows its window.
    receiver.fetch(&sender, cell.in_flight, effort.round())?;
    raw.fetch(cell.in_flight, effort.round())?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..Effort::ROUNDS {
        ours.push(receiver.fetch(&sender, cell.in_flight, effort.round())?);
        theirs.push(raw.fetch(cell.in_flight, effort.round())?);
    }
    Ok(Pair { ours: Fetched::median(ours), raw: Fetched::median(theirs) })
}

fn prefix_latency(effort: Effort, ca: &Ca, bandwidth: f64) -> anyhow::Result<[Bar; 2]> {
    let sender = Sender::start(ca, Size { slots: PREFIX_BLOCKS, ..MEDIUM })?;
    let receiver = Receiver::start(ca, Size { slots: PREFIX_BLOCKS, ..MEDIUM }, sender.addr())?;
    let latencies = receiver.prefixes(PREFIX_BLOCKS, effort.scaled(60))?;
    let least = (PREFIX_BLOCKS * MEDIUM.block_bytes) as f64 / bandwidth;
    let bar = |id, share| Bar::value(id, latencies.quantile(share) * 1e3, "ms").against(least * 1e3);
    Ok([bar("64_blocks_p50", 0.5), bar("64_blocks_p99", 0.99)])
}

fn small_blocks(effort: Effort, ca: &Ca) -> anyhow::Result<[Bar; 2]> {
    let sender = Sender::start(ca, SMALL)?;
    let receiver = Receiver::start(ca, SMALL, sender.addr())?;
    let blocks = SMALL.slots / 2;
    receiver.prefixes(blocks, 1)?;
    let tcp = limits::tcp_loopback(effort)? / 1e9;
    let latencies = receiver.prefixes(blocks, effort.scaled(200))?;
    let rate = (blocks * SMALL.block_bytes) as f64 / latencies.quantile(0.5);
    let small = Bar::value("16kib_blocks", rate / 1e9, "GB/s").against(tcp).at_least(0.2);
    Ok([small, Bar::value("tcp_loopback", tcp, "GB/s")])
}

/// Through a forwarder that delays, with and without loss.
fn under_loss(effort: Effort, ca: &Ca) -> anyhow::Result<Bar> {
    let mut rates = [0.0; 2];
    for (rate, loss) in rates.iter_mut().zip([0.0, LOSS]) {
        let sender = Sender::start(ca, MEDIUM)?;
        let forwarder = Forwarder::start(sender.addr(), DELAY, loss)?;
        let receiver = Receiver::start(ca, MEDIUM, forwarder.addr())?;
        receiver.fetch(&sender, 4, 2 * effort.round())?;
        let rounds: anyhow::Result<Vec<_>> =
            (0..Effort::ROUNDS).map(|_| receiver.fetch(&sender, 4, 2 * effort.round())).collect();
        *rate = Fetched::median(rounds?).bytes_per_s() / 1e9;
    }
    Ok(Bar::value("rtt_1ms_loss", rates[1], "GB/s").against(rates[0]).at_least(0.8))
}
