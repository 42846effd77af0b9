//! What a mount shows: files, requests, time; never a value. As tables for people, as one JSON object for programs.

use coffer_sandbox::egress::{Ending, Record};
use coffer_sandbox::instance::Usage;
use coffer_sandbox::provider::ObjectVersion;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use std::fmt::Write;
use std::time::Duration;

use crate::failure::printable;
use crate::publish::fetch::Fetched;
use crate::units::{Size, Span};
use crate::volume::{Change, FileSet};

/// A mount that worked.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The class's name.
    pub class: String,
    /// The provider's name.
    pub provider: String,
    /// The digest of the plugin.
    pub plugin: String,
    /// The target as it was typed.
    pub target: String,
    /// Whether nothing was written on purpose.
    pub dry_run: bool,
    /// What changed, or would have.
    pub change: ChangeLine,
    /// The files of the volume.
    pub files: Vec<FileLine>,
    /// The objects of the store, as the provider names them.
    pub objects: Vec<ObjectLine>,
    /// Parameters of the class that volume attributes replaced.
    pub overridden: Vec<String>,
    /// The requests.
    pub requests: Vec<RequestLine>,
    /// How long it took.
    pub milliseconds: Times,
}

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum ChangeLine {
    /// Nothing.
    Unchanged,
    /// Links or leftovers.
    Repaired,
    /// A new version.
    Replaced {
        /// Files of it.
        written: usize,
        /// Files that it no longer has.
        removed: usize,
    },
}

impl From<Change> for ChangeLine {
    fn from(change: Change) -> Self {
        match change {
            Change::Unchanged => Self::Unchanged,
            Change::Repaired => Self::Repaired,
            Change::Replaced { written, removed } => Self::Replaced { written, removed },
        }
    }
}

/// A file.
#[derive(Serialize)]
pub struct FileLine {
    path: String,
    size: usize,
    mode: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
}

/// An object.
#[derive(Serialize)]
pub struct ObjectLine {
    id: String,
    version: String,
}

/// A request.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestLine {
    method: String,
    host: String,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// The case of the error, one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    attempts: u32,
    bytes_out: u64,
    bytes_in: u64,
    milliseconds: f64,
}

impl From<&Record> for RequestLine {
    fn from(record: &Record) -> Self {
        let (status, failed, error) = match &record.ending {
            Ending::Status(status) => (Some(*status), None, None),
            Ending::Failed(error) => (None, Some(error.kind()), Some(error.to_string())),
        };
        Self {
            method: record.method.clone(),
            host: record.host.clone(),
            path: record.path.clone(),
            status,
            failed,
            error,
            rule: record.rule.as_deref().map(str::to_owned),
            attempts: record.attempts,
            bytes_out: record.bytes_out,
            bytes_in: record.bytes_in,
            milliseconds: milliseconds(record.duration),
        }
    }
}

/// Where the time went.
#[derive(Clone, Copy, Serialize)]
pub struct Times {
    /// All of it, the plugin's start included.
    pub total: f64,
    /// Reading, perhaps compiling, and linking the plugin.
    pub plugin: f64,
    /// The provider's call.
    pub call: f64,
    /// Of the call: waiting for HTTP.
    pub network: f64,
    /// Of the call: computing.
    pub cpu: f64,
}

impl Times {
    /// From what was measured.
    #[must_use]
    pub fn new(total: Duration, plugin: Duration, usage: &Usage) -> Self {
        Self {
            total: milliseconds(total),
            plugin: milliseconds(plugin),
            call: milliseconds(usage.duration),
            network: milliseconds(usage.http),
            cpu: milliseconds(usage.cpu),
        }
    }
}

/// The lines of everything that a provider handed back.
#[must_use]
pub fn describe(fetched: &Fetched) -> (Vec<FileLine>, Vec<ObjectLine>, Vec<RequestLine>) {
    let files = fetched.files.iter().flat_map(FileSet::iter).map(|file| FileLine {
        path: file.path().to_owned(),
        size: file.len(),
        mode: format!("{:04o}", file.mode()),
        version: fetched.versions.get(file.path()).cloned(),
    });
    let object =
        |ObjectVersion { id, version }: &ObjectVersion| ObjectLine { id: id.clone(), version: version.clone() };
    (
        files.collect(),
        fetched.objects.iter().map(object).collect(),
        fetched.records.iter().map(RequestLine::from).collect(),
    )
}

impl Report {
    /// Tables and a summary.
    #[must_use]
    pub fn tables(&self) -> String {
        let mut text = String::new();
        push_table(&mut text, &self.file_table());
        // Versions that stand at no file are shown by themselves.
        if self.files.iter().all(|file| file.version.is_none()) {
            push_table(&mut text, &self.object_table());
        }
        push_table(&mut text, &self.request_table());
        self.push_errors(&mut text);
        self.push_summary(&mut text);
        text
    }

    fn file_table(&self) -> Table {
        let mut table = new_table(&["PATH", "SIZE", "MODE", "VERSION"], &[1]);
        for file in &self.files {
            let version = file.version.as_deref().unwrap_or("-");
            table.add_row([
                &*printable(&file.path),
                &Size(file.size as u64).to_string(),
                &file.mode,
                &printable(version),
            ]);
        }
        table
    }

    fn object_table(&self) -> Table {
        let mut table = new_table(&["OBJECT", "VERSION"], &[]);
        for object in &self.objects {
            table.add_row([printable(&object.id), printable(&object.version)]);
        }
        table
    }

    fn request_table(&self) -> Table {
        let mut table = new_table(&["METHOD", "HOST", "PATH", "STATUS", "TIME", "BYTES", "RULE"], &[3, 4, 5]);
        for request in &self.requests {
            let status = request.status.map(|status| status.to_string());
            let status = status.as_deref().or(request.failed).unwrap_or_default();
            table.add_row([
                &*printable(&request.method),
                &printable(&request.host),
                &printable(&request.path),
                status,
                &show(request.milliseconds),
                &Size(request.bytes_in).to_string(),
                request.rule.as_deref().unwrap_or("-"),
            ]);
        }
        table
    }

    /// Why requests failed, each reason once: sentences do not fit into a column.
    fn push_errors(&self, text: &mut String) {
        let mut errors: Vec<_> = self.requests.iter().filter_map(|request| request.error.as_deref()).collect();
        let mut seen = std::collections::BTreeSet::new();
        errors.retain(|error| seen.insert(*error));
        for error in errors.iter().take(ERRORS_SHOWN) {
            let _ = writeln!(text, "{}", printable(error));
        }
        if errors.len() > ERRORS_SHOWN {
            let _ = writeln!(text, "and {} other reasons; `--output json` has them all", errors.len() - ERRORS_SHOWN);
        }
        if !errors.is_empty() {
            text.push('\n');
        }
    }

    fn push_summary(&self, text: &mut String) {
        if !self.overridden.is_empty() {
            let _ = writeln!(text, "overridden by volume attributes: {}", printable(&self.overridden.join(", ")));
        }
        let (did, target) = (if self.dry_run { "dry run: would be " } else { "" }, printable(&self.target));
        let _ = match self.change {
            ChangeLine::Unchanged if self.dry_run => writeln!(text, "dry run: {target} would not change"),
            ChangeLine::Unchanged => writeln!(text, "{target}: unchanged"),
            ChangeLine::Repaired => writeln!(text, "{target}: {did}repaired, contents unchanged"),
            ChangeLine::Replaced { written, removed: 0 } => writeln!(text, "{target}: {did}{}written", count(written)),
            ChangeLine::Replaced { written, removed } => {
                writeln!(text, "{target}: {did}{}written, {}removed", count(written), count(removed))
            }
        };
        let Times { total, plugin, call, network, cpu } = self.milliseconds;
        let [total, plugin, call, network, cpu] = [total, plugin, call, network, cpu].map(show);
        let _ = writeln!(text, "took {total}: plugin {plugin}, call {call} (network {network}, computing {cpu})");
    }
}

/// How many reasons of failed requests a table is followed by.
const ERRORS_SHOWN: usize = 10;

fn count(files: usize) -> String {
    format!("{files} file{} ", if files == 1 { "" } else { "s" })
}

/// A table without lines; the columns `right` are aligned to the right.
pub(super) fn new_table(header: &[&str], right: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if right.contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Writes a table that has rows, and an empty line.
pub(super) fn push_table(text: &mut String, table: &Table) {
    if table.row_count() > 0 {
        for line in table.lines() {
            let _ = writeln!(text, "{}", line.trim_end());
        }
        text.push('\n');
    }
}

fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

fn show(milliseconds: f64) -> String {
    Span(Duration::from_secs_f64(milliseconds / 1e3)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::json_object;

    fn report() -> Report {
        Report {
            class: "c".into(),
            provider: "azure".into(),
            plugin: "sha256:00".into(),
            target: "out".into(),
            dry_run: false,
            change: ChangeLine::Replaced { written: 1, removed: 2 },
            files: vec![FileLine { path: "a/b".into(), size: 3, mode: "0400".into(), version: Some("v1".into()) }],
            objects: vec![ObjectLine { id: "secret/b".into(), version: "v1".into() }],
            overridden: Vec::new(),
            requests: vec![RequestLine {
                method: "GET".into(),
                host: "kv.vault.azure.net".into(),
                path: "/secrets/b".into(),
                status: Some(200),
                failed: None,
                error: None,
                rule: Some("GET https://{keyvaultName}.vault.azure.net/".into()),
                attempts: 1,
                bytes_out: 10,
                bytes_in: 2_048,
                milliseconds: 12.34,
            }],
            milliseconds: Times { total: 30.0, plugin: 10.0, call: 15.0, network: 12.3, cpu: 0.5 },
        }
    }

    #[test]
    fn tables_show_files_requests_and_time() {
        let expected = "\
PATH  SIZE  MODE  VERSION
a/b    3 B  0400  v1

METHOD  HOST                PATH        STATUS     TIME    BYTES  RULE
GET     kv.vault.azure.net  /secrets/b     200  12.3 ms  2.0 KiB  GET https://{keyvaultName}.vault.azure.net/

out: 1 file written, 2 files removed
took 30.0 ms: plugin 10.0 ms, call 15.0 ms (network 12.3 ms, computing 0.5 ms)
";
        assert_eq!(report().tables(), expected);
    }

    #[test]
    fn objects_have_a_table_of_their_own_where_files_have_no_versions() {
        let mut report = report();
        report.files[0].version = None;
        assert!(report.tables().contains("OBJECT    VERSION\nsecret/b  v1\n"), "{}", report.tables());
    }

    #[test]
    fn why_requests_failed_stands_below_their_table_each_reason_once() {
        let mut report = report();
        for number in 0..ERRORS_SHOWN + 3 {
            let error = Some(format!("denied: no rule allows {}", number / 2));
            report.requests.push(RequestLine {
                status: None,
                failed: Some("denied"),
                error,
                ..report.requests[0].clone()
            });
        }
        let tables = report.tables();
        assert!(tables.contains("/secrets/b  denied"), "{tables}");
        assert_eq!(tables.matches("no rule allows 0").count(), 1, "{tables}");
        report.requests.extend(
            report
                .requests
                .clone()
                .into_iter()
                .enumerate()
                .map(|(number, line)| RequestLine { error: Some(format!("another reason {number}")), ..line }),
        );
        assert!(report.tables().contains("other reasons"), "{}", report.tables());
    }

    #[test]
    fn a_dry_run_says_so() {
        let mut report = Report { dry_run: true, ..report() };
        assert!(report.tables().contains("out: dry run: would be 1 file written"), "{}", report.tables());
        report.change = ChangeLine::Unchanged;
        assert!(report.tables().contains("dry run: out would not change"));
    }

    #[test]
    fn json_has_the_same_content() {
        let value: serde_json::Value = serde_json::from_str(&json_object(&report())).unwrap();
        assert_eq!(value["change"], serde_json::json!({ "kind": "replaced", "written": 1, "removed": 2 }));
        assert_eq!(value["files"][0]["mode"], "0400");
        assert_eq!(value["requests"][0]["bytesIn"], 2_048);
        assert_eq!(value["milliseconds"]["total"], 30.0);
    }
}
