//! Fetching blocks: the session of `weft-transport-proto`, fed from a stream and drained into a sink.

use weft_transport_proto::{Fetch, FetchEvent, ProtocolError, Refusal};

use crate::exchange::Exchange;
use crate::{BlockSink, Fabric, FetchError, FetchRequest, FetchSummary, Target};

/// What a fetch is called in errors.
pub(crate) const NAME: &str = "fetch";

/// Runs one fetch to its end.
pub(crate) async fn fetch(
    fabric: &Fabric,
    to: &Target,
    request: &FetchRequest,
    sink: &mut dyn BlockSink,
) -> Result<FetchSummary, FetchError> {
    let mut session = Fetch::new(&request.blocks, request.block_bytes).map_err(FetchError::Request)?;
    let mut exchange = Exchange::open(fabric, to, NAME).await?;
    while let Some(bytes) = session.poll_transmit() {
        exchange.send_encoded(bytes).await?;
    }
    let mut summary = FetchSummary::default();
    loop {
        let chunk = exchange.recv.read_chunk(usize::MAX, true).await.map_err(|error| exchange.lost(&error))?;
        let ended = chunk.is_none();
        let fed: Result<(), ProtocolError> = match chunk {
            Some(chunk) => session.handle_bytes(chunk.bytes),
            None => session.handle_end(),
        };
        // What came before a fault stands: it goes to the sink first.
        let refused = drain(&mut session, request.block_bytes, sink, &mut summary);
        fed.map_err(|error| exchange.protocol(error))?;
        if let Some(refusal) = refused {
            exchange.end();
            return Err(exchange.refused(refusal).into());
        }
        if ended {
            exchange.end();
            return Ok(summary);
        }
    }
}

fn drain(
    session: &mut Fetch,
    block_bytes: u64,
    sink: &mut dyn BlockSink,
    summary: &mut FetchSummary,
) -> Option<Refusal> {
    while let Some(event) = session.poll_event() {
        match event {
            FetchEvent::Chunk { index, offset, bytes } => sink.chunk(index as usize, offset, &bytes),
            FetchEvent::Complete { index, checksum } => {
                summary.blocks += 1;
                summary.bytes += block_bytes;
                sink.complete(index as usize, checksum);
            }
            FetchEvent::Declined { index, refusal } => sink.refused(index as usize, refusal),
            FetchEvent::Refused(refusal) => return Some(refusal),
            FetchEvent::Done => {}
        }
    }
    None
}
