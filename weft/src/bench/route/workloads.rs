//! Workloads of the bench: traces of blocks, read or generated.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use weft_route_sim::{Turn, Workload};

use crate::workload::generate::{Mix, Shape, generate};
use crate::workload::{Row, read, spread};

/// Longer prompts are left out, as models of 200 thousand tokens of context would.
const INPUT_MAX: u32 = 200_000;
/// Blocks of the gates' traces.
const BLOCK_TOKENS: u32 = 512;
/// Of generated workloads, and of arrivals inside a step of a trace.
const SEED: u64 = 1;

/// The gates' workloads, at their own pace.
#[derive(Debug)]
pub(super) struct Three {
    pub(super) chat: Rows,
    pub(super) tool: Rows,
    pub(super) agent: Rows,
}

/// Rows in the order of their arrival.
#[derive(Debug)]
pub(super) struct Rows {
    rows: Vec<Row>,
    arrivals: Vec<Duration>,
    /// The turns of a session follow each other's answers.
    closed: bool,
    block_tokens: u32,
}

impl Three {
    /// From a folder; or generated, with the sizes of the traces that they resemble.
    pub(super) fn load(folder: Option<&Path>) -> anyhow::Result<Self> {
        let load = |name: &str, closed, requests, [chat, tool, agent]: [f64; 3]| {
            let rows = match folder {
                Some(folder) => read(&folder.join(format!("{name}.jsonl.zst")), BLOCK_TOKENS, usize::MAX)?,
                None => generate(&shape(requests, Mix { chat, tool, agent })),
            };
            Rows::new(rows, closed, BLOCK_TOKENS)
        };
        Ok(Self {
            chat: load("mooncake_conversation", false, 12_031, [1.0, 0.0, 0.0])?,
            tool: load("toolagent_like", false, 22_241, [0.54, 0.46, 0.0])?,
            agent: load("cc_dev", true, 24_434, [0.0, 0.0, 1.0])?,
        })
    }
}

impl Rows {
    fn new(mut rows: Vec<Row>, closed: bool, block_tokens: u32) -> anyhow::Result<Self> {
        ensure!(!rows.is_empty(), "the trace has no requests");
        let arrivals = spread(&mut rows, SEED);
        Ok(Self { rows, arrivals, closed, block_tokens })
    }

    /// As a workload, so many times as fast.
    pub(super) fn at(&self, speed: f64, input_max: u64) -> Workload {
        let mut sessions = HashMap::new();
        let turns = self.rows.iter().zip(&self.arrivals).map(|(row, arrival)| {
            let session = row.session_id.as_ref().filter(|_| self.closed).map(|session| {
                let next = sessions.len() as u64;
                *sessions.entry(session).or_insert(next)
            });
            let think = session.filter(|_| row.turn > 0).map(|_| Duration::from_millis(row.think_ms));
            Turn {
                after_s: think.unwrap_or(*arrival).as_secs_f64() / speed,
                session,
                input_tokens: row.input_length,
                output_tokens: row.output_length,
                blocks: row.hash_ids.clone(),
            }
        });
        let input_max = u32::try_from(input_max).unwrap_or(u32::MAX).min(INPUT_MAX);
        Workload::new(turns, self.block_tokens, input_max)
    }
}

/// One trace, or `builtin`; a trace with think times is a closed loop. Prompts over half a device are left out.
pub(super) fn load(trace: &Path, block_tokens: u32, speed: f64, device_tokens: u64) -> anyhow::Result<Workload> {
    let rows = match trace == Path::new("builtin") {
        true => generate(&Shape { block_tokens, ..shape(12_000, Mix::default()) }),
        false => read(trace, block_tokens, usize::MAX)?,
    };
    let closed = rows.iter().any(|row| row.think_ms > 0);
    Ok(Rows::new(rows, closed, block_tokens)?.at(speed, device_tokens / 2))
}

fn shape(requests: usize, mix: Mix) -> Shape {
    Shape { seed: SEED, requests, span: Duration::from_secs(3600), length_scale: 1.0, block_tokens: BLOCK_TOKENS, mix }
}
