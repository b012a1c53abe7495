//! A workload made ready to be replayed: rows in the order of their arrival, and how to make each request of them.
//!
//! Requests are made when they are due, not before: a trace of an hour is gigabytes as text.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use serde::Serialize;
use weft_tokens::ModelFiles;
use weft_types::BlockSize;

use crate::workload::generate::{self, Shape};
use crate::workload::{self, Bound, BoundCounter, Expander, Row};

/// Where rows come from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// A file in Mooncake's format with blocks of so many tokens.
    File { path: PathBuf, block_tokens: u32 },
    /// The generator.
    Generated(Shape),
}

/// Which API carries the prompts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Api {
    /// `/v1/completions`, prompts as token ids.
    Completions,
    /// `/v1/chat/completions`, prompts as one message whose text has the same tokens.
    Chat,
}

/// What it takes to prepare a workload.
#[derive(Debug)]
pub(crate) struct Preparation<'a> {
    pub(crate) source: Source,
    /// At most so many requests, the earliest.
    pub(crate) requests: usize,
    pub(crate) api: Api,
    /// Of words and of arrivals inside a step.
    pub(crate) seed: u64,
    pub(crate) files: Arc<ModelFiles>,
    /// Model name in the requests.
    pub(crate) model: &'a str,
    /// Size of the blocks that the bound counts: weft's, not the trace's.
    pub(crate) block_size: BlockSize,
}

/// A workload that can be replayed, any number of times.
#[derive(Debug)]
pub(crate) struct Workload {
    rows: Vec<Row>,
    /// Arrival of each row since the first.
    arrivals: Vec<Duration>,
    expander: Expander,
    files: Arc<ModelFiles>,
    model: String,
    api: Api,
    bound: Bound,
}

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt: Option<&'a [u32]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<[Message; 1]>,
    max_tokens: u32,
    ignore_eos: bool,
    stream: bool,
    stream_options: StreamOptions,
}

#[derive(Serialize)]
struct Message {
    role: &'static str,
    content: String,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

impl Workload {
    /// Reads or generates the rows, and counts the bound.
    pub(crate) fn prepare(preparation: Preparation<'_>) -> anyhow::Result<Self> {
        let Preparation { source, requests, api, seed, files, model, block_size } = preparation;
        let (mut rows, block_tokens) = match source {
            Source::File { path, block_tokens } => {
                let rows = workload::read(&path, block_tokens, requests)?;
                ensure!(
                    !rows.is_empty(),
                    "trace {}: no request in it: expected one JSON object a line",
                    path.display()
                );
                (rows, block_tokens)
            }
            Source::Generated(shape) => (generate::generate(&shape), shape.block_tokens),
        };
        let mut arrivals = workload::spread(&mut rows, seed);
        rows.truncate(requests);
        arrivals.truncate(requests);
        let expander = Expander::new(&files, block_tokens, seed)?;
        let bound = Bound::default();
        let mut workload = Self { rows, arrivals, expander, files, model: model.to_owned(), api, bound };
        workload.bound = workload.count(BoundCounter::new(block_size))?;
        Ok(workload)
    }

    /// Requests.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// When request `number` arrives, counted from the first.
    pub(crate) fn arrival(&self, number: usize) -> Duration {
        self.arrivals[number]
    }

    /// From the first arrival to the last.
    pub(crate) fn span(&self) -> Duration {
        self.arrivals.last().copied().unwrap_or_default()
    }

    /// What an infinite cache would reach on the prompts as the engine tokenises them.
    pub(crate) fn bound(&self) -> Bound {
        self.bound
    }

    /// Path of the API.
    pub(crate) fn path(&self) -> &'static str {
        match self.api {
            Api::Completions => "/v1/completions",
            Api::Chat => "/v1/chat/completions",
        }
    }

    /// Body of request `number`.
    pub(crate) fn body(&self, number: usize) -> anyhow::Result<Bytes> {
        let row = &self.rows[number];
        let tokens = self.expander.prompt(number, row);
        let message = |content| [Message { role: "user", content }];
        let text = match self.api {
            Api::Completions => None,
            Api::Chat => Some(self.files.decode(&tokens).context("cannot write a prompt as text")?),
        };
        let body = Body {
            model: &self.model,
            prompt: text.is_none().then_some(&tokens),
            messages: text.map(message),
            max_tokens: row.output_length.max(1),
            ignore_eos: true,
            stream: true,
            stream_options: StreamOptions { include_usage: true },
        };
        Ok(serde_json::to_vec(&body)?.into())
    }

    fn count(&self, mut counter: BoundCounter) -> anyhow::Result<Bound> {
        for (number, row) in self.rows.iter().enumerate() {
            match self.api {
                Api::Completions => counter.add(&self.expander.prompt(number, row)),
                Api::Chat => counter.add(&self.files.chat_prompt(&self.body(number)?)?),
            }
        }
        Ok(counter.bound())
    }
}
