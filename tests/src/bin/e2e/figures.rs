//! What the run measures, told once at its end. Nothing passes or fails by a figure.

use std::sync::{Mutex, PoisonError};

use comfy_table::Table;

#[derive(Default)]
pub(crate) struct Figures(Mutex<Vec<(String, String)>>);

impl Figures {
    pub(crate) fn tell(&self, what: &str, figure: impl Into<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((what.to_owned(), figure.into()));
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if rows.is_empty() {
            return Ok(());
        }
        let mut table = Table::new();
        for (what, figure) in rows.iter() {
            table.add_row([what, figure]);
        }
        write!(f, "{table}")
    }
}

/// The middle one.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
