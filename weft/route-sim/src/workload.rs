//! Requests by their blocks, ready to be replayed.

use std::collections::{HashMap, HashSet};

/// One request, as a trace has it.
#[derive(Clone, Debug)]
pub struct Turn {
    /// When it arrives, or, after the first of a session in a closed loop, how long after the answer before it.
    pub after_s: f64,
    /// Which session it belongs to, in a closed loop; `None` if it arrives whatever became of others.
    pub session: Option<u64>,
    /// Length of the prompt.
    pub input_tokens: u32,
    /// Length of the answer.
    pub output_tokens: u32,
    /// Names of the prompt's blocks: equal names are equal prefixes.
    pub blocks: Vec<u64>,
}

/// One request, with its blocks numbered from 0.
#[derive(Clone, Debug)]
pub struct Request {
    /// As of its [`Turn`].
    pub after_s: f64,
    /// Which session.
    pub session: Option<u64>,
    /// Length of the prompt.
    pub input_tokens: u32,
    /// Length of the answer.
    pub output_tokens: u32,
    /// Its full blocks.
    pub blocks: Box<[u32]>,
    /// The next turn of the session.
    pub next: Option<usize>,
    /// It is nobody's next turn.
    pub first: bool,
}

/// Requests to replay.
#[derive(Clone, Debug)]
pub struct Workload {
    /// In the order of the trace.
    pub requests: Vec<Request>,
    /// Tokens in a block.
    pub block_tokens: u32,
    /// Different blocks.
    pub blocks: usize,
}

impl Workload {
    /// Takes a trace in the order of its arrivals; prompts over `input_max` tokens are left out.
    pub fn new(turns: impl IntoIterator<Item = Turn>, block_tokens: u32, input_max: u32) -> Self {
        let mut numbers: HashMap<u64, u32> = HashMap::new();
        let mut last: HashMap<u64, usize> = HashMap::new();
        let mut requests: Vec<Request> = Vec::new();
        for turn in turns {
            if turn.input_tokens > input_max {
                continue;
            }
            let full = (turn.input_tokens / block_tokens) as usize;
            let mut number = |name: &u64| {
                let next = u32::try_from(numbers.len()).expect("a trace has fewer than 4 billion blocks");
                *numbers.entry(*name).or_insert(next)
            };
            let blocks = turn.blocks.iter().take(full).map(&mut number).collect();
            let before = turn.session.and_then(|session| last.insert(session, requests.len()));
            if let Some(before) = before {
                requests[before].next = Some(requests.len());
            }
            requests.push(Request {
                after_s: turn.after_s,
                session: turn.session,
                input_tokens: turn.input_tokens,
                output_tokens: turn.output_tokens.max(1),
                blocks,
                next: None,
                first: before.is_none(),
            });
        }
        Self { requests, block_tokens, blocks: numbers.len() }
    }

    /// Blocks of a prompt that a cache can spare: its last token is computed whatever is held.
    #[must_use]
    pub fn reusable<'a>(&self, request: &'a Request) -> &'a [u32] {
        let most = (request.input_tokens.saturating_sub(1) / self.block_tokens) as usize;
        &request.blocks[..request.blocks.len().min(most)]
    }

    /// Share of prompt tokens that an infinite cache would spare.
    #[must_use]
    pub fn bound(&self) -> f64 {
        let mut seen: HashSet<u32> = HashSet::new();
        let (mut hit, mut all) = (0, 0);
        for request in &self.requests {
            let leading = self.reusable(request).iter().take_while(|block| seen.contains(block)).count() as u64;
            hit += leading * u64::from(self.block_tokens);
            all += u64::from(request.input_tokens);
            seen.extend(&request.blocks);
        }
        hit as f64 / f64::max(all as f64, 1.0)
    }
}
