//! Plain tables for terminals: columns aligned, numbers to the right.

use std::fmt;
use std::time::Duration;

/// Rows under a header.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With these column heads.
    pub(crate) fn new(heads: &[&str]) -> Self {
        Self { rows: vec![heads.iter().map(|head| (*head).to_owned()).collect()] }
    }

    /// Appends a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width =
            |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let number = cell.starts_with(|c: char| c.is_ascii_digit() || c == '-') && !cell.contains(':');
                line.push_str(&if number { format!("{cell:>width$}  ") } else { format!("{cell:<width$}  ") });
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Bytes in binary megabytes, for a cell with one decimal.
#[expect(clippy::cast_precision_loss, reason = "one decimal of a size is shown")]
pub(crate) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1u32 << 20)
}

/// How long ago: whole seconds, and no finer than its two greatest units.
pub(crate) fn ago(since: Duration) -> String {
    let text = humantime::format_duration(Duration::from_secs(since.as_secs())).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}
