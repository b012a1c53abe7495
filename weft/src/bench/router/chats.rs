//! Chats that grow turn by turn, as whole requests.
//!
//! Every conversation begins with one of a few system prompts, and each turn repeats all before it. When all have been sent they
//! begin anew with other words in them, so that what is met again is what real chats share, and nothing else.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

/// Stands where words of one pass go.
const NONCE: &str = "NNNNNNNNNNNNNNNN";
/// English text.
const BYTES_A_TOKEN: usize = 4;

/// What the chats look like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) conversations: u32,
    /// Tokens of a system prompt, of which there are [`Shape::SYSTEMS`].
    pub(super) system_tokens: usize,
    /// Tokens of a turn, on average.
    pub(super) turn_tokens: usize,
    /// Turns of a conversation, at most.
    pub(super) turns: usize,
    /// Events of a streamed answer; `None`: an answer in one piece.
    pub(super) events: Option<usize>,
}

impl Shape {
    const SYSTEMS: usize = 16;

    /// Bodies of 16 kB on average.
    pub(super) const CHAT: Self =
        Self { conversations: 200, system_tokens: 1000, turn_tokens: 700, turns: 10, events: None };
    /// One line.
    pub(super) const LINE: Self = Self { conversations: 64, system_tokens: 4, turn_tokens: 20, turns: 1, events: None };
    /// Some 100,000 tokens before the first turn.
    pub(super) const LONG: Self =
        Self { conversations: 4, system_tokens: 100_000, turn_tokens: 700, turns: 4, events: None };
}

/// Requests in the order in which they are sent.
pub(super) struct Chats(Vec<Turn>);

struct Turn {
    conversation: u32,
    request: Vec<u8>,
    nonces: Vec<usize>,
}

impl Chats {
    pub(super) fn new(shape: Shape) -> Self {
        let mut dice = StdRng::seed_from_u64(1);
        let words: Vec<String> = (0..4000).map(|_| word(&mut dice)).collect();
        let systems: Vec<_> = (0..Shape::SYSTEMS.min(shape.conversations as usize))
            .map(|_| text(&mut dice, &words, shape.system_tokens))
            .collect();
        let mut rounds: Vec<Vec<Turn>> = Vec::new();
        for conversation in 0..shape.conversations {
            let system = systems.choose(&mut dice).map_or("", String::as_str);
            let mut messages = format!(r#"{{"role":"system","content":"{system}"}}"#);
            for round in 0..dice.random_range(1..=shape.turns) {
                let tokens = shape.turn_tokens / 2 + dice.random_range(0..shape.turn_tokens);
                let asked = text(&mut dice, &words, tokens * 2 / 3);
                messages.push_str(&format!(r#",{{"role":"user","content":"{NONCE} {asked}"}}"#));
                let turn = Turn::new(conversation, &messages, shape.events);
                if rounds.len() == round {
                    rounds.push(Vec::new());
                }
                rounds[round].push(turn);
                let answered = text(&mut dice, &words, tokens / 3);
                messages.push_str(&format!(r#",{{"role":"assistant","content":"{answered}"}}"#));
            }
        }
        Self(rounds.into_iter().flatten().collect())
    }

    /// The request of this number, into `request`.
    pub(super) fn write(&self, number: u64, request: &mut Vec<u8>) {
        let turns = self.0.len() as u64;
        let turn = &self.0[usize::try_from(number % turns).unwrap_or(0)];
        request.clear();
        request.extend_from_slice(&turn.request);
        let nonce = format!("{:08x}{:08x}", number / turns, turn.conversation);
        for at in &turn.nonces {
            request[*at..*at + NONCE.len()].copy_from_slice(nonce.as_bytes());
        }
    }

    pub(super) fn mean_bytes(&self) -> usize {
        self.0.iter().map(|turn| turn.request.len()).sum::<usize>() / self.0.len().max(1)
    }
}

impl Turn {
    fn new(conversation: u32, messages: &str, events: Option<usize>) -> Self {
        let (stream, tokens) = (events.is_some(), events.unwrap_or(32));
        let body = format!(
            r#"{{"model":"bench","messages":[{messages}],"temperature":0.7,"stream":{stream},"max_tokens":{tokens}}}"#
        );
        let head =
            "POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length:";
        let request = format!("{head} {}\r\n\r\n{body}", body.len());
        let nonces = request.match_indices(NONCE).map(|(at, _)| at).collect();
        Self { conversation, request: request.into_bytes(), nonces }
    }
}

fn word(dice: &mut StdRng) -> String {
    const SYLLABLES: [&str; 20] = [
        "ta", "re", "in", "con", "de", "mo", "ly", "st", "er", "al", "pro", "ti", "on", "ba", "ke", "su", "ra", "ne",
        "vi", "or",
    ];
    (0..dice.random_range(1..=3)).filter_map(|_| SYLLABLES.choose(dice)).copied().collect()
}

/// Words, common ones more often.
fn text(dice: &mut StdRng, words: &[String], tokens: usize) -> String {
    let mut text = String::with_capacity(tokens * BYTES_A_TOKEN + 16);
    while text.len() < tokens * BYTES_A_TOKEN {
        let at = (words.len() as f64).powf(dice.random::<f64>()) as usize;
        text.push_str(&words[at.min(words.len()) - 1]);
        text.push(if dice.random_ratio(1, 12) { '.' } else { ' ' });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_repeats_the_turns_before_it_and_a_pass_repeats_nothing() {
        let chats = Chats::new(Shape { conversations: 1, turns: 3, ..Shape::CHAT });
        let turns = chats.0.len() as u64;
        let messages = |number| {
            let mut request = Vec::new();
            chats.write(number, &mut request);
            let text = String::from_utf8(request).unwrap();
            text.split_once("messages\":[").unwrap().1.split_once("],\"temp").unwrap().0.to_owned()
        };
        for turn in 1..turns {
            assert!(messages(turn).starts_with(&messages(turn - 1)));
        }
        assert_ne!(messages(0), messages(turns));
        assert!((12_000..20_000).contains(&Chats::new(Shape::CHAT).mean_bytes()));
    }
}
