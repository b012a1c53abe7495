//! A seeded generator of traces with the statistics of real ones. `docs/workloads.md` says how they were measured.
//!
//! Three kinds of session share the requests:
//! - *chat*: all begin with one system prompt; a third of them goes on, each turn longer than the last, minutes apart;
//! - *tool*: single calls behind one of two long hot prompts, with short questions and very short answers;
//! - *agent*: loops of dozens of turns, seconds apart, whose prompt is the whole log, behind one of many system prompts.
//!
//! The statistics are of an hour. A trace of another span is that hour at another speed, gaps and think times included.
//! Sessions lie uniformly in it, each as a whole, since their statistics are of sessions as a trace's window shows them; what a
//! session would ask later than an hour after its beginning is left out.

use std::time::Duration;

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::quantiles::Quantiles;
use super::{Row, SessionId};

/// What to generate.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shape {
    /// Equal seeds and shapes give equal traces.
    pub(crate) seed: u64,
    /// Requests in all.
    pub(crate) requests: usize,
    /// Time over which they arrive: an hour of the real traces takes so long.
    pub(crate) span: Duration,
    /// Multiplies every length in tokens; 1 is the size of the real traces.
    pub(crate) length_scale: f64,
    /// Tokens in a block of the trace.
    pub(crate) block_tokens: u32,
    pub(crate) mix: Mix,
}

/// Shares of the requests; they need not add up to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Mix {
    pub(crate) chat: f64,
    pub(crate) tool: f64,
    pub(crate) agent: f64,
}

impl Default for Mix {
    /// Chat to tool as Mooncake's tool-and-agent trace has them (54 to 46); the share of agent loops is our choice, since
    /// no public trace mixes them in.
    fn default() -> Self {
        Self { chat: 0.40, tool: 0.35, agent: 0.25 }
    }
}

/// Statistics of one kind of session. Lengths in tokens, times in milliseconds.
struct Kind {
    /// Length of each shared prompt, and how often it is used.
    shared: &'static [(f64, f64)],
    /// First prompt behind the shared one.
    first: Quantiles,
    /// What a turn adds to the prompt, the answer before it included.
    growth: Quantiles,
    output: Quantiles,
    /// From one arrival of a session to the next.
    gap: Quantiles,
    turns: Turns,
    /// Sessions end before a prompt gets longer.
    input_max: f64,
}

enum Turns {
    /// Chance of another turn after the first, second, …; the last is for all further ones.
    Continue(&'static [f64]),
    Count(Quantiles),
}

/// Mooncake conversation trace: 12,031 requests, 8,198 sessions told by their growing prefix. Block 0 is in all of them.
const CHAT: Kind = Kind {
    shared: &[(512.0, 1.0)],
    first: Quantiles([379.0, 386.0, 396.0, 968.0, 5439.0, 13837.0, 25968.0, 37947.0, 86660.0, 125683.0]),
    growth: Quantiles([2.0, 45.0, 98.0, 290.0, 481.0, 882.0, 4645.0, 7473.0, 17472.0, 91918.0]),
    output: Quantiles([1.0, 10.0, 24.0, 156.0, 350.0, 472.0, 597.0, 698.0, 1120.0, 2000.0]),
    gap: Quantiles([6e3, 30e3, 42e3, 66e3, 123e3, 267e3, 477e3, 606e3, 1470e3, 3030e3]),
    turns: Turns::Continue(&[0.24, 0.38, 0.49, 0.55, 0.60, 0.66, 0.72]),
    input_max: 126_195.0,
};

/// Mooncake arxiv trace, first 1,000 requests: 361 behind a prompt of 12 blocks (questions and answers measured there), 153
/// behind one of 5.
const TOOL: Kind = Kind {
    shared: &[(6144.0, 361.0), (2560.0, 153.0)],
    first: Quantiles([20.0, 23.0, 25.0, 67.0, 510.0, 923.0, 1252.0, 1574.0, 2921.0, 3535.0]),
    growth: Quantiles([1.0; 10]),
    output: Quantiles([3.0, 3.0, 3.0, 3.0, 3.0, 27.0, 33.0, 38.0, 52.0, 191.0]),
    gap: Quantiles([1.0; 10]),
    turns: Turns::Continue(&[0.0]),
    input_max: 126_195.0,
};

/// Claude Code sessions of the kv-cache-tester traces: 291 that begin under 131,072 tokens; gaps are think times, which were
/// capped at 300 s where they were published here, plus the time of an answer. Their first blocks are shared as by rank^-0.65.
const AGENT: Kind = Kind {
    shared: &AGENT_PROMPTS,
    first: Quantiles([760.0, 3077.0, 3537.0, 5991.0, 10260.0, 54198.0, 81112.0, 97297.0, 122_990.0, 130_056.0]),
    growth: Quantiles([10.0, 152.0, 186.0, 319.0, 620.0, 1469.0, 3445.0, 5998.0, 18251.0, 416_925.0]),
    output: Quantiles([2.0, 90.0, 105.0, 136.0, 213.0, 426.0, 895.0, 1577.0, 3797.0, 18195.0]),
    gap: Quantiles([1e3, 3e3, 4e3, 5e3, 10e3, 32e3, 165e3, 300e3, 300e3, 300e3]),
    turns: Turns::Count(Quantiles([3.0, 5.0, 8.0, 18.0, 42.0, 92.0, 155.0, 234.0, 346.0, 514.0])),
    input_max: 131_072.0,
};

/// 24 blocks of 512 tokens are what half of the agent sessions share with others, under weights of rank^-0.65.
const AGENT_PROMPTS: [(f64, f64); 16] = [
    (12_288.0, 1.0),
    (12_288.0, 0.637),
    (12_288.0, 0.490),
    (12_288.0, 0.406),
    (12_288.0, 0.351),
    (12_288.0, 0.312),
    (12_288.0, 0.282),
    (12_288.0, 0.259),
    (12_288.0, 0.240),
    (12_288.0, 0.224),
    (12_288.0, 0.210),
    (12_288.0, 0.199),
    (12_288.0, 0.189),
    (12_288.0, 0.180),
    (12_288.0, 0.172),
    (12_288.0, 0.165),
];

/// Over which the sessions were observed.
const HOUR_MS: f64 = 3.6e6;
/// Time of a token of an answer, to tell a think time from a gap between arrivals.
const ANSWER_MS_PER_TOKEN: f64 = 10.0;

/// Rows in the order of their arrival.
pub(crate) fn generate(shape: &Shape) -> Vec<Row> {
    let mut generator = Generator { shape, dice: ChaCha8Rng::seed_from_u64(shape.seed), next_id: 0, sessions: 0 };
    let Mix { chat, tool, agent } = shape.mix;
    let share = |part: f64| (shape.requests as f64 * part / (chat + tool + agent)).round() as usize;
    let (chats, tools) = (share(chat), share(tool));
    let mut rows = generator.kind(&CHAT, chats);
    rows.extend(generator.kind(&TOOL, tools));
    rows.extend(generator.kind(&AGENT, shape.requests.saturating_sub(chats + tools)));
    rows.sort_by_key(|row| row.timestamp);
    let pace = shape.span.as_secs_f64() * 1000.0 / HOUR_MS;
    for row in &mut rows {
        row.timestamp = (row.timestamp as f64 * pace) as u64;
        row.think_ms = (row.think_ms as f64 * pace) as u64;
    }
    rows
}

struct Generator<'a> {
    shape: &'a Shape,
    dice: ChaCha8Rng,
    next_id: u64,
    sessions: u64,
}

/// The blocks of a session's prompt so far.
struct Log {
    ids: Vec<u64>,
    tokens: f64,
}

impl Generator<'_> {
    fn kind(&mut self, kind: &Kind, requests: usize) -> Vec<Row> {
        let prompts: Vec<_> = kind.shared.iter().map(|(tokens, weight)| (self.shared(*tokens), *weight)).collect();
        let mut rows = Vec::with_capacity(requests);
        while rows.len() < requests {
            let (prompt, _) = prompts
                .choose_weighted(&mut self.dice, |(_, weight)| *weight)
                .expect("every kind has shared prompts of positive weight");
            self.session(kind, prompt, &mut rows);
        }
        rows.truncate(requests);
        rows
    }

    fn session(&mut self, kind: &Kind, prompt: &[u64], rows: &mut Vec<Row>) {
        let shared = prompt.len() as f64 * f64::from(self.shape.block_tokens);
        let mut log = Log { ids: prompt.to_vec(), tokens: shared };
        let (mut at, mut think) = (0.0, 0.0);
        let session = SessionId::Number(self.sessions);
        self.sessions += 1;
        let begin = rows.len();
        for turn in 0..self.turns(&kind.turns) {
            let added = if turn == 0 { &kind.first } else { &kind.growth };
            log.tokens += added.draw(&mut self.dice) * self.shape.length_scale;
            if log.tokens > kind.input_max * self.shape.length_scale + shared || at > HOUR_MS {
                break;
            }
            let output = self.scaled(&kind.output);
            rows.push(Row {
                timestamp: at as u64,
                input_length: log.tokens as u32,
                output_length: output,
                hash_ids: self.blocks(&mut log),
                session_id: Some(session.clone()),
                turn,
                think_ms: think as u64,
            });
            let gap = kind.gap.draw(&mut self.dice);
            at += gap;
            think = (gap - f64::from(output) * ANSWER_MS_PER_TOKEN).max(0.0);
        }
        self.place(&mut rows[begin..]);
    }

    /// Moves a session, which begins at 0, to where all of it lies in the hour.
    fn place(&mut self, session: &mut [Row]) {
        let Some(last) = session.last() else { return };
        let room = HOUR_MS - last.timestamp as f64;
        let begin = (self.dice.random_range(0.0..1.0) * room) as u64;
        session.iter_mut().for_each(|row| row.timestamp += begin);
    }

    fn turns(&mut self, turns: &Turns) -> u32 {
        match turns {
            Turns::Count(count) => count.draw(&mut self.dice) as u32,
            Turns::Continue(chances) => {
                let chance = |turn: usize| chances[turn.min(chances.len() - 1)];
                let mut turn = 0;
                while self.dice.random_bool(chance(turn)) {
                    turn += 1;
                }
                turn as u32 + 1
            }
        }
    }

    /// Names the blocks of the log as long as it is now. A block keeps its name once it is full.
    fn blocks(&mut self, log: &mut Log) -> Vec<u64> {
        let block_tokens = u64::from(self.shape.block_tokens);
        let tokens = log.tokens as u64;
        while (log.ids.len() as u64) < tokens / block_tokens {
            let id = self.fresh();
            log.ids.push(id);
        }
        let mut ids = log.ids.clone();
        if !tokens.is_multiple_of(block_tokens) {
            ids.push(self.fresh());
        }
        ids
    }

    fn shared(&mut self, tokens: f64) -> Vec<u64> {
        let blocks = (tokens * self.shape.length_scale / f64::from(self.shape.block_tokens)).round().max(1.0);
        (0..blocks as usize).map(|_| self.fresh()).collect()
    }

    fn scaled(&mut self, tokens: &Quantiles) -> u32 {
        (tokens.draw(&mut self.dice) * self.shape.length_scale).max(1.0) as u32
    }

    fn fresh(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    fn shape(mix: Mix) -> Shape {
        let span = Duration::from_secs(3600);
        Shape { seed: 7, requests: 12_000, span, length_scale: 1.0, block_tokens: 512, mix }
    }

    fn median(mut values: Vec<u32>) -> u32 {
        values.sort_unstable();
        values[values.len() / 2]
    }

    /// Share of tokens in leading full blocks seen before.
    fn bound(rows: &[Row]) -> f64 {
        let mut seen: HashSet<u64> = HashSet::new();
        let (mut hit, mut all) = (0, 0);
        for row in rows {
            let full = row.input_length as usize / 512;
            hit += 512 * row.hash_ids[..full].iter().take_while(|id| seen.contains(id)).count();
            all += row.input_length as usize;
            seen.extend(&row.hash_ids);
        }
        hit as f64 / all as f64
    }

    #[test]
    fn chat_has_the_statistics_of_the_conversation_trace() {
        let rows = generate(&shape(Mix { chat: 1.0, tool: 0.0, agent: 0.0 }));
        assert_eq!(rows.len(), 12_000);
        let input = median(rows.iter().map(|row| row.input_length).collect());
        assert!((6200..7600).contains(&input), "median input {input}, real 6909");
        let output = median(rows.iter().map(|row| row.output_length).collect());
        assert!((330..370).contains(&output), "median output {output}, real 350");
        let bound = bound(&rows);
        assert!((0.32..0.43).contains(&bound), "bound {bound}, real 0.373");
        let sessions = rows.iter().filter(|row| row.turn == 0).count();
        assert!((7600..8800).contains(&sessions), "{sessions} sessions, real 8198");
    }

    #[test]
    fn prompts_of_a_session_extend_each_other() {
        let rows = generate(&shape(Mix::default()));
        let mut last: HashMap<&SessionId, &Row> = HashMap::new();
        let mut continued = 0;
        for row in &rows {
            let session = row.session_id.as_ref().unwrap();
            if let Some(before) = last.insert(session, row) {
                let full = before.input_length as usize / 512;
                assert_eq!(before.hash_ids[..full], row.hash_ids[..full]);
                assert_eq!(row.turn, before.turn + 1);
                continued += 1;
            }
            assert_eq!(row.hash_ids.len(), row.input_length.div_ceil(512) as usize);
        }
        assert!(continued > 3000, "{continued} later turns");
    }

    #[test]
    fn seeds_repeat_and_lengths_scale() {
        let small = Shape { requests: 500, length_scale: 0.1, block_tokens: 64, ..shape(Mix::default()) };
        assert_eq!(generate(&small), generate(&small));
        assert_ne!(generate(&small), generate(&Shape { seed: 8, ..small.clone() }));
        let whole = generate(&Shape { length_scale: 1.0, ..small.clone() });
        let input = |rows: &[Row]| f64::from(median(rows.iter().map(|row| row.input_length).collect()));
        let ratio = input(&whole) / input(&generate(&small));
        assert!((8.0..12.0).contains(&ratio), "{ratio}");

        let fast = generate(&Shape { span: Duration::from_secs(36), ..small.clone() });
        for (slow, fast) in generate(&small).iter().zip(&fast) {
            assert_eq!((slow.timestamp / 100, slow.think_ms / 100), (fast.timestamp, fast.think_ms));
            assert_eq!((&slow.hash_ids, slow.output_length), (&fast.hash_ids, fast.output_length));
        }
    }
}
