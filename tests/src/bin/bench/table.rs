//! Rows of figures: medians and 99th percentiles of many runs, and their ratio to a baseline of the same table.

use std::io::Write as _;
use std::time::Duration;

use anyhow::Result;
use comfy_table::{CellAlignment, presets};

/// A table with a title and an explanation.
pub(crate) struct Table {
    title: &'static str,
    table: comfy_table::Table,
}

impl Table {
    pub(crate) fn new<const N: usize>(title: &'static str, header: [&str; N]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING).set_header(header);
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        Self { title, table }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.table.add_row(cells);
    }

    pub(crate) fn print(&self) -> Result<()> {
        Ok(writeln!(std::io::stdout().lock(), "\n{}\n{}", self.title, self.table)?)
    }
}

/// Many measurements of the same thing.
pub(crate) struct Sample(Vec<Duration>);

impl Sample {
    pub(crate) fn new(mut measurements: Vec<Duration>) -> Self {
        measurements.sort_unstable();
        Self(measurements)
    }

    /// The measurement that `percent` of all are not above.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).saturating_sub(1);
        self.0.get(rank).copied().unwrap_or_default()
    }

    pub(crate) fn mean(&self) -> Duration {
        self.0.iter().sum::<Duration>() / u32::try_from(self.0.len().max(1)).unwrap_or(u32::MAX)
    }

    pub(crate) fn median(&self) -> Duration {
        self.percentile(50)
    }
}

/// A duration with three digits that mean something.
pub(crate) fn show(duration: Duration) -> String {
    let micros = duration.as_secs_f64() * 1e6;
    match micros {
        m if m < 1_000.0 => format!("{m:.0} µs"),
        m if m < 100_000.0 => format!("{:.2} ms", m / 1e3),
        m if m < 1_000_000.0 => format!("{:.0} ms", m / 1e3),
        m => format!("{:.2} s", m / 1e6),
    }
}

pub(crate) fn ratio(duration: Duration, baseline: Duration) -> String {
    format!("{:.2} ×", duration.as_secs_f64() / baseline.as_secs_f64())
}
