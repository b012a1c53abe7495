//! Blocks between a GPU's memory and a pinned arena, by the size of their pieces, against the driver's plain copies of the same bytes.
//!
//! A block is 8 MiB; what differs is in how many pieces it lies in the cache. The limit is one plain copy a block
//! (`cuMemcpyHtoD`, `cuMemcpyDtoH`) from and to the same pinned slots, in the same run.

use std::sync::Arc;

use anyhow::{Context, bail};
use serde_json::json;
use weft_attach::{Geometry, Region, SlotIndex, SlotReader, SlotWriter};
use weft_gpu::{Cache, Copier, DeviceBuffer, Found, Gpu, Layer, Row, look};
use weft_types::ByteSize;

use super::form::Bar;
use super::measure::Effort;
use super::{FormArgs, Measured, Outcome, params, plot, print};

/// Bytes of a block: 64 tokens of an 8-billion-parameter model.
const BLOCK_BYTES: usize = 8 << 20;

/// Blocks of one transfer: a prefix of 512 tokens.
const BLOCKS: usize = 8;

/// Pieces of a block, and what the two bars are called.
const PIECES: &[(usize, &str, &str)] = &[
    (4 << 10, "load_4KiB", "store_4KiB"),
    (16 << 10, "load_16KiB", "store_16KiB"),
    (64 << 10, "load_64KiB", "store_64KiB"),
    (256 << 10, "load_256KiB", "store_256KiB"),
    (1 << 20, "load_1MiB", "store_1MiB"),
    (8 << 20, "load_8MiB", "store_8MiB"),
];

/// Layers of the model, where pieces are small enough.
const LAYERS: usize = 32;

/// Arguments of `weft bench gpu`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct GpuArgs {
    #[command(flatten)]
    form: FormArgs,
    /// Number of the device, as CUDA counts.
    #[arg(long, default_value_t = 0)]
    device: u32,
    /// One size of pieces, instead of all: 4KiB, 16KiB, 64KiB, 256KiB, 1MiB or 8MiB.
    #[arg(long, value_name = "SIZE")]
    piece: Option<ByteSize>,
}

/// Measures, where there is a GPU.
pub(crate) async fn run(args: GpuArgs) -> anyhow::Result<()> {
    let found = match look() {
        Ok(found) => found,
        Err(absent) => bail!("weft bench gpu needs a GPU, and there is none to use: {absent}"),
    };
    let effort = Effort { quick: args.form.quick };
    let measured = super::on_a_thread(move || measure(effort, &found, args.device, args.piece)).await?;
    let outcome = Outcome::new("gpu", measured);
    if let Some(path) = &args.form.plot {
        plot::bars(&outcome, path)?;
    }
    print(&outcome, args.form.json)
}

fn measure(effort: Effort, found: &Found, device: u32, piece: Option<ByteSize>) -> anyhow::Result<Measured> {
    let gpu = Gpu::open(device)?;
    let arena = Arena::new()?;
    let mut bars = Vec::new();
    let mut pinned = false;
    let wanted = |size: usize| piece.is_none_or(|piece| piece.bytes() == size as u64);
    for (piece, load, store) in PIECES.iter().filter(|(size, _, _)| wanted(*size)) {
        let bench = Scattered::new(&gpu, *piece)?;
        pinned = bench.copier.pin(&arena.region);
        let gb = |bytes_per_s: f64| bytes_per_s / 1e9;
        let (loaded, plain_to) = (bench.load(effort, &arena)?, bench.plain_load(effort, &arena)?);
        bars.push(Bar::value(load, gb(loaded), "GB/s").against(gb(plain_to)));
        let (stored, plain_from) = (bench.store(effort, &arena)?, bench.plain_store(effort, &arena)?);
        bars.push(Bar::value(store, gb(stored), "GB/s").against(gb(plain_from)));
    }
    if bars.is_empty() {
        bail!("no pieces of that size: expected 4KiB, 16KiB, 64KiB, 256KiB, 1MiB or 8MiB");
    }
    let mut described = json!({
        "device": gpu.found().name,
        "driver": found.version,
        "batched_copies": gpu.batches(),
        "pinned": pinned,
        "block_bytes": BLOCK_BYTES,
        "blocks": BLOCKS,
    });
    if gpu.found().name.contains("stand-in") {
        described["NO_GPU"] =
            json!("measured with weft's stand-in for a driver: these figures say nothing about any GPU");
    }
    Ok(Measured { params: params(described), bars })
}

/// Slots of blocks, as an engine maps them.
struct Arena {
    region: Arc<Region>,
}

impl Arena {
    fn new() -> anyhow::Result<Self> {
        let geometry = Geometry::fit(BLOCK_BYTES as u64, (BLOCKS * BLOCK_BYTES) as u64)?;
        let node = Region::create("weft-bench-gpu", geometry)?;
        node.populate(SlotIndex(0), geometry.slots)?;
        let writable = node.writable().context("the creator has the descriptor")?.try_clone_to_owned()?;
        Ok(Self { region: Region::open(geometry, &writable, &node.readable()?)? })
    }

    fn readers(&self) -> anyhow::Result<Vec<SlotReader>> {
        slots().map(|slot| Ok(self.region.read(slot)?)).collect()
    }

    fn writers(&self) -> anyhow::Result<Vec<SlotWriter>> {
        slots().map(|slot| Ok(self.region.write(slot)?)).collect()
    }
}

fn slots() -> impl Iterator<Item = SlotIndex> {
    (0..u32::try_from(BLOCKS).expect("few blocks")).map(SlotIndex)
}

/// A cache whose pages are of one size and far apart.
struct Scattered {
    copier: Copier,
    rows: Vec<Row>,
    plain: DeviceBuffer,
    _layers: Vec<DeviceBuffer>,
}

impl Scattered {
    fn new(gpu: &Gpu, piece: usize) -> anyhow::Result<Self> {
        let layers = LAYERS.min(BLOCK_BYTES / piece);
        let ratio = BLOCK_BYTES / piece / layers;
        let pages = ratio * BLOCKS;
        let stride = 2 * piece;
        let buffers = (0..layers).map(|_| DeviceBuffer::new(gpu, pages * stride)).collect::<Result<Vec<_>, _>>()?;
        let addresses: Vec<_> = buffers.iter().map(|buffer| Layer { address: buffer.address() }).collect();
        let cache = Cache::new(gpu, &addresses, (u32::try_from(pages)?, piece, stride as u64), ratio)?;
        let row = |number: usize| -> anyhow::Result<Row> {
            let numbers = number * ratio..(number + 1) * ratio;
            Ok(Row { skip: 0, pages: numbers.map(u32::try_from).collect::<Result<_, _>>()? })
        };
        let rows = (0..BLOCKS).map(row).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Self { copier: Copier::new(cache)?, rows, plain: DeviceBuffer::new(gpu, BLOCK_BYTES)?, _layers: buffers })
    }

    fn load(&self, effort: Effort, arena: &Arena) -> anyhow::Result<f64> {
        rate(effort, || {
            let rows = self.rows.iter().cloned().zip(arena.readers()?).collect();
            Ok(self.copier.load(rows, None)?.wait()?)
        })
    }

    fn store(&self, effort: Effort, arena: &Arena) -> anyhow::Result<f64> {
        let mut writers = arena.writers()?;
        rate(effort, || {
            let mut rows: Vec<_> =
                self.rows.iter().cloned().zip(writers.iter_mut().map(|writer| &mut **writer)).collect();
            Ok(self.copier.store(&mut rows, None)?)
        })
    }

    /// Through the writable mapping, which is pinned wherever anything is.
    fn plain_load(&self, effort: Effort, arena: &Arena) -> anyhow::Result<f64> {
        let writers = arena.writers()?;
        rate(effort, || writers.iter().try_for_each(|block| Ok(self.plain.write(0, block)?)))
    }

    fn plain_store(&self, effort: Effort, arena: &Arena) -> anyhow::Result<f64> {
        let mut writers = arena.writers()?;
        rate(effort, || writers.iter_mut().try_for_each(|block| Ok(self.plain.read(0, block)?)))
    }
}

/// Bytes a second of transfers of all blocks.
fn rate(effort: Effort, mut transfer: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    // Once before, so that what is made at first use is there.
    transfer()?;
    let mut failed = None;
    let rate = effort.rate(|| {
        failed = failed.take().or_else(|| transfer().err());
        BLOCKS * BLOCK_BYTES
    });
    failed.map_or(Ok(rate), Err)
}
