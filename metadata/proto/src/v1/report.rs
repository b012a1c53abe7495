//! Reports on the wire.

use weft_index::Report;
use weft_index::layout::Reader;
use weft_types::ShardId;
use weft_types::codec::DecodeError;
use weft_types::rpc::Message;

/// Request of [`super::method::Report`]; little-endian:
///
/// ```text
///  0       2   4         8
///  │ shard │ 0 │ count n │ n reports (weft_index::Report) │
///  │ u16   │u16│ u32     │                                │
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReportRequest {
    /// Which group.
    pub shard: ShardId,
    /// Those of one holder in order of their numbers.
    pub reports: Vec<Report>,
}

impl Message for ReportRequest {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(8 + self.reports.iter().map(Report::encoded_len).sum::<usize>());
        out.extend_from_slice(&self.shard.get().to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        let count = u32::try_from(self.reports.len()).expect("reports of one call fit a message");
        out.extend_from_slice(&count.to_le_bytes());
        self.reports.iter().for_each(|report| report.write(&mut out));
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes, "ReportRequest");
        let shard = ShardId::new(reader.u16()?);
        reader.zeros(2)?;
        // Nothing is reserved for what `count` claims: each report must bring its bytes.
        let count = reader.u32()?;
        let reports = (0..count).map(|_| Report::read(&mut reader)).collect::<Result<_, _>>()?;
        reader.finish()?;
        Ok(Self { shard, reports })
    }
}
