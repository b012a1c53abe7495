//! Copies of blocks, on a stream for each direction, in order with the engine's own.
//!
//! ```text
//!   engine's stream   …─ compute ─●ready            wait 0 ─ layer 0 ─ wait 1 ─ layer 1 …
//!                                  └─────────┐        ▲                 ▲
//!   our stream                     wait ready ─ copy 0 ●─── copy 1 ─────● …
//! ```

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use weft_attach::Region;

use crate::cache::{Cache, Row};
use crate::device::Gpu;
use crate::driver::{self, Direction};
use crate::error::{GpuError, Refused};
use crate::event::{EngineEvent, Event};
use crate::pinned::Pinned;
use crate::stream::{EngineStream, Stream};

/// Bytes in flight in each direction: 1 GiB, a tenth of a second of the widest link there is. Whoever asks for more waits for the
/// oldest; the driver's own queue then never fills, which would make any caller wait, in the middle of anything.
pub const IN_FLIGHT_BYTES_MAX: usize = 1 << 30;

/// Events kept of what is in flight, or was: a few loads of many layers.
const IN_FLIGHT_EVENTS_MAX: usize = 1024;

/// Copies in one call: 4,096, some hundred KiB of arguments.
const BATCH_PIECES_MAX: usize = 4096;

/// Regions that are kept pinned: the node's present one, and the one before while its last blocks are copied.
const REGIONS_MAX: usize = 2;

/// Copies between one cache and the arena.
#[derive(Debug)]
pub struct Copier {
    cache: Cache,
    to_device: Lane,
    /// One store at a time: it returns when its copies have ended.
    to_host: Mutex<Lane>,
    pinned: Mutex<Vec<Arc<Pinned>>>,
    in_flight_bytes_max: usize,
}

/// Blocks on their way to the device. Dropped, it waits until they are there: their rows are held until then.
#[derive(Debug)]
pub struct Arriving<H> {
    rows: Vec<H>,
    steps: Vec<Arc<Event>>,
    stream: Arc<Stream>,
    cache: Cache,
    /// Every copy of ours is before the last event.
    complete: bool,
    over: bool,
    pinned: Vec<Arc<Pinned>>,
}

#[derive(Debug)]
struct Lane {
    stream: Arc<Stream>,
    in_flight: Mutex<VecDeque<(Arc<Event>, usize)>>,
}

/// A copy, with addresses.
struct Copy {
    device: u64,
    host: usize,
    bytes: usize,
}

impl Copier {
    /// For a cache.
    ///
    /// # Errors
    /// The driver refuses the streams.
    pub fn new(cache: Cache) -> Result<Self, GpuError> {
        let (to_device, to_host) = (Lane::new(cache.gpu())?, Lane::new(cache.gpu())?);
        let pinned = Mutex::default();
        Ok(Self { cache, to_device, to_host: Mutex::new(to_host), pinned, in_flight_bytes_max: IN_FLIGHT_BYTES_MAX })
    }

    /// With less in flight.
    #[must_use]
    pub fn with_in_flight_bytes_max(self, bytes: usize) -> Self {
        Self { in_flight_bytes_max: bytes, ..self }
    }

    /// Where it copies from and to.
    #[must_use]
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Pins a region, unless it is. Blocks for as long as the kernel needs to lock its pages. Whether it is pinned.
    pub fn pin(&self, region: &Arc<Region>) -> bool {
        let mut pinned = self.pinned.lock();
        if let Some(known) = pinned.iter().find(|known| known.is_of(region)) {
            return known.is_pinned();
        }
        let new = Arc::new(Pinned::new(self.cache.gpu(), region));
        let is_pinned = new.is_pinned();
        pinned.push(new);
        if pinned.len() > REGIONS_MAX {
            pinned.remove(0);
        }
        is_pinned
    }

    /// Begins to copy blocks into pages of the cache, layer by layer, after what `after` is behind: the engine's last use of those
    /// pages. Does not wait, but for room in flight.
    ///
    /// # Errors
    /// Rows that are none of this cache, before anything is copied; or the driver refuses. What had begun is over then.
    pub fn load<H: AsRef<[u8]>>(
        &self,
        rows: Vec<(Row, H)>,
        after: Option<EngineEvent>,
    ) -> Result<Arriving<H>, GpuError> {
        for (row, host) in &rows {
            self.cache.admits(row, host.as_ref().len())?;
        }
        let (pages, rows): (Vec<Row>, Vec<H>) = rows.into_iter().unzip();
        // From here on rows stay where they are, in the value that waits for the copies when it is dropped.
        let mut arriving = Arriving {
            rows,
            steps: Vec::new(),
            stream: Arc::clone(&self.to_device.stream),
            cache: self.cache.clone(),
            complete: false,
            over: false,
            pinned: self.pinned.lock().clone(),
        };
        if let Some(after) = after {
            after.hold(&self.to_device.stream)?;
        }
        let bases: Vec<usize> =
            arriving.rows.iter().map(|row| arriving.reach(row.as_ref().as_ptr().expose_provenance())).collect();
        for step in 0..self.cache.shape().steps() {
            let copies = self.copies(step, pages.iter().zip(bases.iter().copied()));
            // SAFETY: `arriving` holds the rows, and their registration, until an event behind these copies; nobody writes them
            // meanwhile, since they are borrowed as shared.
            unsafe { self.to_device.begin(Direction::ToDevice, &copies, self.in_flight_bytes_max) }?;
            arriving.steps.push(self.to_device.close(&copies)?);
        }
        arriving.complete = true;
        Ok(arriving)
    }

    /// Copies pages of the cache into blocks, after what `after` is behind: the engine's computing them. Returns when all bytes
    /// are there.
    ///
    /// # Errors
    /// Rows that are none of this cache; or the driver refuses. The blocks' bytes are of no use then.
    pub fn store(&self, rows: &mut [(Row, &mut [u8])], after: Option<EngineEvent>) -> Result<(), GpuError> {
        for (row, host) in rows.iter() {
            self.cache.admits(row, host.len())?;
        }
        let lane = self.to_host.lock();
        let pinned = self.pinned.lock().clone();
        let reach = |address| pinned.iter().find_map(|pinned| pinned.reach(address)).unwrap_or(address);
        if let Some(after) = after {
            after.hold(&lane.stream)?;
        }
        // Whatever happens, no copy is left when the rows are the caller's again.
        let settled = Settled(&lane);
        for step in 0..self.cache.shape().steps() {
            let hosts = rows.iter_mut().map(|(row, host)| (&*row, reach(host.as_mut_ptr().expose_provenance())));
            let copies = self.copies(step, hosts);
            // SAFETY: the rows are borrowed exclusively until this function returns, which is after the stream is done; their
            // registration is held beside.
            unsafe { lane.begin(Direction::ToHost, &copies, self.in_flight_bytes_max) }?;
            lane.close(&copies)?;
        }
        settled.now()?;
        Ok(())
    }

    fn copies<'a>(&self, step: usize, rows: impl Iterator<Item = (&'a Row, usize)>) -> Vec<Copy> {
        let shape = self.cache.shape();
        let of_row = |(row, host): (&Row, usize)| {
            let pieces = shape.pieces(step, row.skip, &row.pages);
            pieces.into_iter().map(move |piece| Copy {
                device: piece.device,
                host: host + piece.offset,
                bytes: piece.bytes,
            })
        };
        rows.flat_map(of_row).collect()
    }
}

impl<H> Arriving<H> {
    /// Has an engine's stream wait for a layer.
    ///
    /// # Errors
    /// The driver refuses: then the layer must not be used.
    pub fn wait_layer(&self, layer: usize, stream: EngineStream) -> Result<(), Refused> {
        match self.steps.get(self.cache.shape().step_of(layer)) {
            Some(event) => stream.wait_for(event),
            None => Ok(()),
        }
    }

    /// Whether all is there.
    ///
    /// # Errors
    /// Something failed: nothing may be used.
    pub fn is_done(&self) -> Result<bool, Refused> {
        self.steps.last().map_or(Ok(true), |last| last.is_done())
    }

    /// Waits until all is there.
    ///
    /// # Errors
    /// Something failed: nothing may be used.
    pub fn wait(mut self) -> Result<(), Refused> {
        self.settle()
    }

    /// Blocks that are coming.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.rows.len()
    }

    fn reach(&self, address: usize) -> usize {
        self.pinned.iter().find_map(|pinned| pinned.reach(address)).unwrap_or(address)
    }

    fn settle(&mut self) -> Result<(), Refused> {
        self.over = true;
        match self.steps.last() {
            Some(last) if self.complete => last.synchronize(),
            _ => self.stream.synchronize(),
        }
    }
}

impl<H> Drop for Arriving<H> {
    fn drop(&mut self) {
        // After an error the context is lost, and nothing of it runs any more.
        if !self.over
            && let Err(error) = self.settle()
        {
            tracing::warn!(%error, "copies to the GPU ended with an error");
        }
    }
}

impl Lane {
    fn new(gpu: &Gpu) -> Result<Self, Refused> {
        Ok(Self { stream: Arc::new(Stream::new(gpu)?), in_flight: Mutex::default() })
    }

    /// Begins copies, when there is room for them.
    ///
    /// # Safety
    /// As for [`driver::copy`].
    unsafe fn begin(&self, direction: Direction, copies: &[Copy], max: usize) -> Result<(), Refused> {
        self.make_room(copies.iter().map(|copy| copy.bytes).sum(), max)?;
        let gpu = self.stream.gpu();
        for batch in copies.chunks(BATCH_PIECES_MAX) {
            gpu.within(|| {
                if !gpu.batches() {
                    // SAFETY: the caller's promise.
                    let one = |copy: &Copy| unsafe {
                        driver::copy(direction, copy.device, copy.host, copy.bytes, self.stream.handle())
                    };
                    return batch.iter().try_for_each(one);
                }
                let mut devices: Vec<_> = batch.iter().map(|copy| copy.device).collect();
                let mut hosts: Vec<_> = batch.iter().map(|copy| copy.host as u64).collect();
                let mut bytes: Vec<_> = batch.iter().map(|copy| copy.bytes).collect();
                let (to, from) = match direction {
                    Direction::ToDevice => (&mut devices, &mut hosts),
                    Direction::ToHost => (&mut hosts, &mut devices),
                };
                // SAFETY: the caller's promise.
                unsafe { driver::copy_batch(to, from, &mut bytes, self.stream.handle()) }
            })?;
        }
        Ok(())
    }

    /// An event behind what has begun.
    fn close(&self, copies: &[Copy]) -> Result<Arc<Event>, Refused> {
        let event = Arc::new(Event::new(self.stream.gpu())?);
        event.record(&self.stream)?;
        self.in_flight.lock().push_back((Arc::clone(&event), copies.iter().map(|copy| copy.bytes).sum()));
        Ok(event)
    }

    fn make_room(&self, bytes: usize, max: usize) -> Result<(), Refused> {
        let mut in_flight = self.in_flight.lock();
        let mut there: usize = in_flight.iter().map(|(_, bytes)| bytes).sum();
        while let Some((oldest, old_bytes)) = in_flight.front() {
            if there + bytes <= max && in_flight.len() < IN_FLIGHT_EVENTS_MAX {
                break;
            }
            // Where it is long over, this is a look.
            oldest.synchronize()?;
            there -= old_bytes;
            in_flight.pop_front();
        }
        Ok(())
    }
}

/// Waits for a lane's copies when it is dropped, at the latest.
struct Settled<'a>(&'a Lane);

impl Settled<'_> {
    fn now(self) -> Result<(), Refused> {
        let done = self.0.stream.synchronize();
        std::mem::forget(self);
        done
    }
}

impl Drop for Settled<'_> {
    fn drop(&mut self) {
        // After an error the context is lost, and nothing of it runs any more.
        if let Err(error) = self.0.stream.synchronize() {
            tracing::warn!(%error, "copies from the GPU ended with an error");
        }
    }
}
