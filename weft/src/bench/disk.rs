//! The disk tier through its real code, against what the same file system gives plain reads and writes of the same size and depth;
//! and how long a start takes to find out what 100 GB of segments hold.
//!
//! The limit is fio's figure where fio is installed (`apt install fio`), and a loop of our own otherwise: threads that read or
//! write a file with direct I/O, one call a block. What the tier does besides (a page of header, a checksum over all it reads, its
//! table) is in its figure. Both take turns, and the median of the rounds counts.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use weft_store::disk::format::{FooterEntry, PAGE_BYTES, SegmentHeader, Space, StoreId, Trailer, footer_pages};
use weft_store::disk::{Device, DiskBlock, DiskOptions, DiskTier, DiskWriter, FileDevice, PageBuffer};
use weft_types::{BlockHash, ByteSize, Checksum};

use super::form::{Bar, Outcome};
use super::measure::Effort;
use super::{FormArgs, Measured, params};

/// Arguments of `weft bench disk`.
#[derive(Debug, clap::Args)]
pub(crate) struct DiskArgs {
    #[command(flatten)]
    form: FormArgs,
    /// Folder on the file system to measure. Default: that of temporary files.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

/// A block of an 8-billion-parameter model at 32 KiB a token.
const BLOCK_BYTES: usize = 2 << 20;
/// What is read, or written, in one piece: a segment holds several.
const ROUND_BLOCKS: usize = 128;
/// Calls at once, and what they are called.
const DEPTHS: [(usize, &str, &str); 3] = [
    (1, "write_depth_1", "read_depth_1"),
    (4, "write_depth_4", "read_depth_4"),
    (16, "write_depth_16", "read_depth_16"),
];
/// Blocks of the recovery: 100 GB of them.
const RECOVERED_BYTES: u64 = 100 << 30;
/// Segments of the recovery: as many as a tier of this size has.
const RECOVERED_SEGMENTS: u32 = 256;

/// Measures in a folder of one's choice.
pub(crate) async fn run(args: DiskArgs) -> anyhow::Result<()> {
    let DiskArgs { form, folder } = args;
    let effort = Effort { quick: form.quick };
    let measured = super::on_a_thread(move || measure_in(effort, folder.as_deref())).await?;
    let outcome = Outcome::new("disk", measured);
    if let Some(path) = &form.plot {
        super::plot::bars(&outcome, path)?;
    }
    super::print(&outcome, form.json)
}

/// Measures where temporary files are.
pub(crate) fn measure(effort: Effort) -> anyhow::Result<Measured> {
    measure_in(effort, None)
}

fn measure_in(effort: Effort, folder: Option<&Path>) -> anyhow::Result<Measured> {
    let make = || match folder {
        Some(folder) => tempfile::tempdir_in(folder),
        None => tempfile::tempdir(),
    };
    let folder = make().context("cannot make a folder to measure in")?;
    let rounds = if effort.quick { 3 } else { Effort::ROUNDS };
    let fio = has_fio();
    let bytes = ByteSize::from_bytes((ROUND_BLOCKS * BLOCK_BYTES) as u64);
    let mut tier = Tier::open(&folder.path().join("tier"))?;
    let plain = Plain::new(&folder.path().join("plain"), fio)?;
    let mut bars = Vec::new();
    for (depth, write, read) in DEPTHS {
        let (mut writes, mut reads) = (Pairs::default(), Pairs::default());
        for _ in 0..rounds {
            writes.push(tier.write(depth)?, plain.run(depth, true)?);
            reads.push(tier.read(depth)?, plain.run(depth, false)?);
        }
        bars.push(writes.bar(write));
        bars.push(reads.bar(read));
    }
    let direct = tier.tier.is_direct();
    drop((tier, plain));
    let (seconds, blocks) = recovery(&folder.path().join("recovery"))?;
    bars.push(Bar::value("recovery_100_gb", seconds, "s").at_most(5.0));
    let limit = if fio { "fio" } else { "pread and pwrite in threads" };
    let said = json!({
        "block_bytes": BLOCK_BYTES, "round": bytes.to_string(), "direct_io": direct, "limit": limit,
        "recovered": {"segments": RECOVERED_SEGMENTS, "blocks": blocks},
    });
    Ok(Measured { params: params(said), bars })
}

/// Bytes a second of both, round by round.
#[derive(Default)]
struct Pairs {
    ours: Vec<f64>,
    limits: Vec<f64>,
}

impl Pairs {
    fn push(&mut self, ours: f64, limit: f64) {
        self.ours.push(ours);
        self.limits.push(limit);
    }

    fn bar(self, id: &'static str) -> Bar {
        Bar::value(id, median(self.ours) / 1e9, "GB/s").against(median(self.limits) / 1e9).at_least(0.9)
    }
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// A disk tier, and blocks for it.
struct Tier {
    tier: Arc<DiskTier>,
    writer: DiskWriter,
    space: Space,
    blocks: Vec<PageBuffer>,
    written: Vec<BlockHash>,
    number: u64,
}

impl Tier {
    fn open(folder: &Path) -> anyhow::Result<Self> {
        let round = (ROUND_BLOCKS * BLOCK_BYTES) as u64;
        let options = DiskOptions {
            owner: "bench".parse()?,
            fresh_id: StoreId([1; 16]),
            // A segment is as long as a round, and there are as many as are never waited for.
            size: ByteSize::from_bytes(6 * round),
            segment_bytes: Some(ByteSize::from_bytes(round)),
            rewrite_percent: 0,
        };
        let (tier, writer) = DiskTier::open(Arc::new(FileDevice::open(folder)?), options, Box::new(|| {}))?;
        let filled = |number: usize| {
            let mut pages = PageBuffer::new(BLOCK_BYTES);
            pages.bytes_mut().iter_mut().zip(number..).for_each(|(byte, at)| *byte = (at % 251) as u8);
            pages
        };
        let blocks = (0..16).map(filled).collect();
        let space = Space { contract: Checksum::from_u64(1), parts: vec![BLOCK_BYTES as u64] };
        let mut tier = Self { tier, writer, space, blocks, written: Vec::new(), number: 0 };
        // Every segment is there before anything is measured: the limit's file is too.
        for _ in 0..7 {
            tier.write(16)?;
        }
        Ok(tier)
    }

    /// Appends a round of blocks, `depth` at a time; bytes a second.
    fn write(&mut self, depth: usize) -> anyhow::Result<f64> {
        let sums: Vec<_> = self.blocks.iter().map(|block| Checksum::of(block.bytes())).collect();
        self.written.clear();
        let begun = Instant::now();
        for _ in 0..ROUND_BLOCKS / depth {
            let batch: Vec<_> = (0..depth)
                .map(|at| {
                    self.number += 1;
                    let block = BlockHash::from_bytes(*blake3::hash(&self.number.to_le_bytes()).as_bytes());
                    self.written.push(block);
                    let (checksum, bytes) = (sums[at], self.blocks[at].bytes());
                    DiskBlock { block, checksum, space: &self.space, bytes }
                })
                .collect();
            let done = self.writer.append(&batch)?;
            ensure!(done.stored == depth, "{done:?} of {depth} blocks");
        }
        Ok(rate(begun))
    }

    /// Reads the last round, by `depth` threads.
    fn read(&self, depth: usize) -> anyhow::Result<f64> {
        let (next, missed) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let buffers: Vec<_> = (0..depth).map(|_| PageBuffer::new(BLOCK_BYTES)).collect();
        let begun = Instant::now();
        std::thread::scope(|scope| {
            for mut buffer in buffers {
                let (next, missed) = (&next, &missed);
                scope.spawn(move || {
                    while let Some(block) = self.written.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let read = self.tier.read(block, &self.space, buffer.bytes_mut());
                        missed.fetch_add(usize::from(read.is_none()), Ordering::Relaxed);
                    }
                });
            }
        });
        let rate = rate(begun);
        ensure!(missed.into_inner() == 0, "blocks that were written were not read");
        Ok(rate)
    }
}

/// Bytes a second of a round that began then.
fn rate(begun: Instant) -> f64 {
    (ROUND_BLOCKS * BLOCK_BYTES) as f64 / begun.elapsed().as_secs_f64()
}

/// The same bytes without a tier.
struct Plain {
    device: FileDevice,
    folder: PathBuf,
    fio: bool,
}

impl Plain {
    fn new(folder: &Path, fio: bool) -> anyhow::Result<Self> {
        let device = FileDevice::open(folder)?;
        device.create(0, (ROUND_BLOCKS * BLOCK_BYTES) as u64)?;
        let plain = Self { device, folder: folder.to_owned(), fio };
        // Written once, so that nothing is measured that has to be found room for.
        plain.threads(16, true)?;
        Ok(plain)
    }

    fn run(&self, depth: usize, write: bool) -> anyhow::Result<f64> {
        if self.fio { self.fio(depth, write) } else { self.threads(depth, write) }
    }

    /// Each thread one call after the other, until the round is done.
    fn threads(&self, depth: usize, write: bool) -> anyhow::Result<f64> {
        let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let buffers: Vec<_> = (0..depth).map(|_| PageBuffer::new(BLOCK_BYTES)).collect();
        let begun = Instant::now();
        std::thread::scope(|scope| {
            for mut buffer in buffers {
                let (next, failed) = (&next, &failed);
                scope.spawn(move || {
                    loop {
                        let block = next.fetch_add(1, Ordering::Relaxed);
                        if block >= ROUND_BLOCKS {
                            return;
                        }
                        let offset = (block * BLOCK_BYTES) as u64;
                        let done = match write {
                            true => self.device.write(0, offset, &mut [IoSlice::new(buffer.bytes())]),
                            false => self.device.read(0, offset, &mut [IoSliceMut::new(buffer.bytes_mut())]),
                        };
                        failed.fetch_add(usize::from(done.is_err()), Ordering::Relaxed);
                    }
                });
            }
        });
        let rate = rate(begun);
        ensure!(failed.into_inner() == 0, "plain reads or writes failed");
        Ok(rate)
    }

    fn fio(&self, depth: usize, write: bool) -> anyhow::Result<f64> {
        let what = if write { "write" } else { "read" };
        let output = Command::new("fio")
            .args(["--name=weft", "--direct=1", "--ioengine=libaio", "--output-format=json", "--thread"])
            .arg(format!("--rw={what}"))
            .arg(format!("--bs={BLOCK_BYTES}"))
            .arg(format!("--size={}", ROUND_BLOCKS * BLOCK_BYTES))
            .arg(format!("--iodepth={depth}"))
            .arg(format!("--filename={}", self.folder.join("segment-00000000").display()))
            .output()
            .context("cannot run fio")?;
        let report: Value = serde_json::from_slice(&output.stdout).context("fio did not say what it measured")?;
        report["jobs"][0][what]["bw_bytes"].as_f64().context("fio reports no bw_bytes")
    }
}

fn has_fio() -> bool {
    Command::new("fio").arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Opens a store of sparse files in which only what a start reads is there; seconds, and blocks it found.
fn recovery(folder: &Path) -> anyhow::Result<(f64, usize)> {
    let segment_bytes = RECOVERED_BYTES / u64::from(RECOVERED_SEGMENTS);
    let (store, owner) = (StoreId([2; 16]), "bench");
    let record_pages = 1 + (BLOCK_BYTES / PAGE_BYTES) as u64;
    // Room for the header and the footer, generously.
    let blocks = (segment_bytes / PAGE_BYTES as u64 - 16) / record_pages;
    std::fs::create_dir_all(folder)?;
    for segment in 0..RECOVERED_SEGMENTS {
        let generation = u64::from(segment) + 1;
        let header =
            SegmentHeader { store, segment, generation, segment_bytes, wear_bytes: 0, owner: owner.to_owned() };
        let entries = (0..blocks).map(|at| FooterEntry {
            block: BlockHash::from_bytes(*blake3::hash(&(generation << 32 | at).to_le_bytes()).as_bytes()),
            page: u32::try_from(1 + at * record_pages).unwrap_or(u32::MAX),
            bytes: BLOCK_BYTES as u32,
            contract: Checksum::from_u64(1),
        });
        let entries: Vec<_> = entries.collect();
        let footer_bytes = usize::try_from(footer_pages(blocks))? * PAGE_BYTES;
        let mut footer = vec![0; footer_bytes];
        Trailer::encode(store, (segment, generation), &entries, &mut footer);
        let file = File::create(folder.join(format!("segment-{segment:08}")))?;
        file.set_len(segment_bytes)?;
        std::os::unix::fs::FileExt::write_all_at(&file, &header.encode(), 0)?;
        std::os::unix::fs::FileExt::write_all_at(&file, &footer, segment_bytes - footer_bytes as u64)?;
        file.sync_all()?;
    }
    let options = DiskOptions {
        owner: owner.parse()?,
        fresh_id: store,
        size: ByteSize::from_bytes(RECOVERED_BYTES),
        segment_bytes: None,
        rewrite_percent: 0,
    };
    let begun = Instant::now();
    let (tier, _writer) = DiskTier::open(Arc::new(FileDevice::open(folder)?), options, Box::new(|| {}))?;
    let seconds = begun.elapsed().as_secs_f64();
    let held = tier.held().blocks;
    ensure!(held as u64 == u64::from(RECOVERED_SEGMENTS) * blocks, "{held} blocks were found");
    Ok((seconds, held))
}
