//! The trace format: one JSON object a line, as Mooncake published it, plain or zstd.
//!
//! | field | unit | |
//! |---|---|---|
//! | `timestamp` | ms | arrival since the trace began |
//! | `input_length`, `output_length` | tokens | of prompt and answer |
//! | `hash_ids` | – | one id a block of the prompt, in order; the last block may be partial or unnamed |
//! | `session_id`, `turn`, `think_ms` | –, –, ms | optional: turns of one session, and the wait between an answer and the next turn |

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Longest line: 2 million tokens in 512-token blocks are 4,000 ids, a hundredth of this.
const LINE_BYTES_MAX: u64 = 4 << 20;
/// What `zstd --long=27` needs to be read: 128 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// One request of a trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// Arrival in milliseconds since the trace began.
    pub(crate) timestamp: u64,
    /// Tokens of the prompt.
    pub(crate) input_length: u32,
    /// Tokens of the answer.
    pub(crate) output_length: u32,
    /// Blocks of the prompt.
    pub(crate) hash_ids: Vec<u64>,
    /// Which session; `None` for a trace of single requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) session_id: Option<SessionId>,
    /// Number of the turn in its session, from 0.
    #[serde(default)]
    pub(crate) turn: u32,
    /// Milliseconds from the previous answer of the session to this turn.
    #[serde(default)]
    pub(crate) think_ms: u64,
}

/// Name of a session: traces in the wild use numbers and texts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum SessionId {
    Number(u64),
    Text(String),
}

/// Why a trace could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TraceError {
    #[error("cannot read trace {path}", path = .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("trace {path}, line {line}: {reason}", path = .path.display())]
    Line { path: PathBuf, line: usize, reason: String },
}

/// Rows of a trace file, in the order of the file; at most `limit`. `block_tokens` is the size of the trace's blocks.
pub(crate) fn read(path: &Path, block_tokens: u32, limit: usize) -> Result<Vec<Row>, TraceError> {
    let lines = open(path).map_err(|source| TraceError::Read { path: path.to_owned(), source })?;
    rows(lines, block_tokens).take(limit).map(|row| row.map_err(|error| error.at(path))).collect()
}

/// Writes rows, compressed if the path ends in `.zst`.
pub(crate) fn write(path: &Path, rows: &[Row]) -> io::Result<()> {
    let mut bytes = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut bytes, row)?;
        bytes.push(b'\n');
    }
    if path.extension().is_some_and(|extension| extension == "zst") {
        bytes = zstd::encode_all(bytes.as_slice(), zstd::DEFAULT_COMPRESSION_LEVEL)?;
    }
    File::create(path)?.write_all(&bytes)
}

fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    let mut file = BufReader::new(File::open(path)?);
    if !file.fill_buf()?.starts_with(&ZSTD_MAGIC) {
        return Ok(Box::new(file));
    }
    let mut decoder = zstd::Decoder::with_buffer(file)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
    Ok(Box::new(BufReader::new(decoder)))
}

/// What was wrong with a line, or with reading it.
#[derive(Debug)]
enum RowError {
    Read(io::Error),
    Line { line: usize, reason: String },
}

impl RowError {
    fn at(self, path: &Path) -> TraceError {
        let path = path.to_owned();
        match self {
            Self::Read(source) => TraceError::Read { path, source },
            Self::Line { line, reason } => TraceError::Line { path, line, reason },
        }
    }
}

fn rows(mut lines: impl BufRead, block_tokens: u32) -> impl Iterator<Item = Result<Row, RowError>> {
    let mut numbers = 1..;
    let mut text = Vec::new();
    std::iter::from_fn(move || {
        loop {
            let line = numbers.next()?;
            text.clear();
            match lines.by_ref().take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut text) {
                Ok(0) => return None,
                Ok(_) if text.trim_ascii().is_empty() => {}
                Ok(_) => return Some(row(&text, block_tokens).map_err(|reason| RowError::Line { line, reason })),
                Err(error) => return Some(Err(RowError::Read(error))),
            }
        }
    })
}

fn row(text: &[u8], block_tokens: u32) -> Result<Row, String> {
    if text.len() as u64 > LINE_BYTES_MAX {
        return Err(format!("longer than {LINE_BYTES_MAX} bytes: this is not a trace of one request a line"));
    }
    let row: Row = serde_json::from_slice(text).map_err(|error| {
        // The parser knows one line only, and would call it line 1.
        let reason = error.to_string();
        let reason = reason.split(" at line ").next().unwrap_or(&reason);
        format!(
            "{reason} at column {}: expected an object with timestamp, input_length, output_length and hash_ids, as Mooncake \
             published it, plain or zstd",
            error.column()
        )
    })?;
    let blocks = row.input_length.div_ceil(block_tokens) as usize;
    match row.hash_ids.len() {
        _ if row.input_length == 0 => Err("input_length is 0: expected at least one token".to_owned()),
        named if named > blocks => Err(format!(
            "{named} hash_ids for {} tokens: expected at most {blocks} blocks of {block_tokens} tokens; \
             is the trace's block size another one?",
            row.input_length
        )),
        _ => Ok(row),
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = concat!(
        r#"{"timestamp":0,"input_length":1000,"output_length":5,"hash_ids":[0,1]}"#,
        "\n\n",
        r#"{"timestamp":7,"input_length":513,"output_length":1,"hash_ids":[0],"session_id":"a","turn":1,"think_ms":20}"#,
    );

    #[test]
    fn plain_and_compressed_files_read_alike() {
        let folder = tempfile::tempdir().unwrap();
        let (plain, packed) = (folder.path().join("t.jsonl"), folder.path().join("t.jsonl.zst"));
        std::fs::write(&plain, TEXT).unwrap();
        let rows = read(&plain, 512, 10).unwrap();
        assert_eq!(rows[1].session_id, Some(SessionId::Text("a".to_owned())));
        assert_eq!((rows[0].think_ms, rows[1].think_ms), (0, 20));
        write(&packed, &rows).unwrap();
        assert!(std::fs::read(&packed).unwrap().starts_with(&ZSTD_MAGIC));
        assert_eq!(read(&packed, 512, 10).unwrap(), rows);
        assert_eq!(read(&packed, 512, 1).unwrap(), rows[..1]);
    }

    #[test]
    fn a_bad_line_is_told_by_its_number() {
        let cases = [
            (r#"{"timestamp":0}"#.to_owned(), "missing field `input_length` at column 15: expected an object"),
            ("{bad".to_owned(), "at column 2"),
            (r#"{"timestamp":0,"input_length":0,"output_length":1,"hash_ids":[]}"#.to_owned(), "at least one token"),
            (r#"{"timestamp":0,"input_length":9,"output_length":1,"hash_ids":[1,2]}"#.to_owned(), "at most 1 blocks"),
            ("x".repeat(5 << 20), "longer than"),
        ];
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bad.jsonl");
        for (bad, reason) in cases {
            std::fs::write(&path, format!("{}\n\n{bad}\n", TEXT.lines().next().unwrap())).unwrap();
            let error = read(&path, 512, 10).unwrap_err().to_string();
            assert!(error.contains("line 3: ") && error.contains(reason), "{error}");
        }
    }
}
