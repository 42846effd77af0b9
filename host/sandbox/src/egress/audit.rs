//! One line and one [`Record`] for every request, whatever became of it.
//!
//! `gate` opens an [`Entry`] when it takes a request and closes it with the ending; an entry that is dropped (its call was
//! cancelled) closes itself as timed out. Lines go to the target [`TARGET`] of `tracing`.
//!
//! It must never show a header, a body or a query value. Paths pass the redactor.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use super::client::Progress;
use super::{Caller, Ending, Error, Record};

/// The target of the audit's lines.
pub const TARGET: &str = "coffer::audit";

/// How much of method, host and path a line shows.
const SHOWN_METHOD: usize = 32;
const SHOWN_HOST: usize = 260;
const SHOWN_PATH: usize = 1024;

/// The records of one call. As many as it may send requests, so it needs no bound of its own.
#[derive(Default)]
pub(crate) struct Ledger {
    records: Mutex<Vec<(usize, Record)>>,
}

impl Ledger {
    /// In the order in which the requests were taken.
    pub(crate) fn records(&self) -> Vec<Record> {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner).clone();
        records.sort_by_key(|(number, _)| *number);
        records.into_iter().map(|(_, record)| record).collect()
    }

    fn add(&self, number: usize, record: Record) {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).push((number, record));
    }
}

/// A request that is on its way.
pub(crate) struct Entry<'a> {
    pub(crate) caller: &'a Caller,
    pub(crate) ledger: &'a Ledger,
    pub(crate) number: usize,
    pub(crate) started: Instant,
    pub(crate) rule: Option<Arc<str>>,
    pub(crate) method: String,
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) progress: Progress,
    pub(crate) ending: Option<Ending>,
}

impl Entry<'_> {
    /// Closes the entry.
    pub(crate) fn close(mut self, ending: Ending) {
        self.ending = Some(ending);
    }

    fn record(&mut self) -> Record {
        let clean = |text: &str, cap| self.caller.redactor.clean(text, cap);
        Record {
            rule: self.rule.take(),
            method: clean(&self.method, SHOWN_METHOD),
            host: clean(&self.host, SHOWN_HOST),
            path: clean(&self.path, SHOWN_PATH),
            ending: self.ending.take().unwrap_or(Ending::Failed(Error::Timeout)),
            attempts: self.progress.attempts.load(Ordering::Relaxed),
            bytes_out: self.progress.bytes_out.load(Ordering::Relaxed),
            bytes_in: self.progress.bytes_in.load(Ordering::Relaxed),
            duration: self.started.elapsed(),
        }
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        let record = self.record();
        write_line(self.caller, &record);
        self.ledger.add(self.number, record);
    }
}

fn write_line(caller: &Caller, record: &Record) {
    let (status, error) = match &record.ending {
        Ending::Status(status) => (Some(*status), None),
        Ending::Failed(error) => (None, Some(error.kind())),
    };
    tracing::info!(
        target: TARGET,
        plugin = &*caller.plugin,
        digest = &*caller.digest,
        pod.namespace = caller.pod.namespace,
        pod.name = caller.pod.name,
        pod.uid = caller.pod.uid,
        rule = record.rule.as_deref(),
        method = record.method,
        host = record.host,
        path = record.path,
        status,
        error,
        attempts = record.attempts,
        bytes_out = record.bytes_out,
        bytes_in = record.bytes_in,
        duration_ms = u64::try_from(record.duration.as_millis()).unwrap_or(u64::MAX),
        "egress request"
    );
}

/// Says once, at the end of a call, how many requests had no budget left and so no line of their own.
pub(crate) fn write_unrecorded(caller: &Caller, requests: u64) {
    tracing::warn!(
        target: TARGET,
        plugin = &*caller.plugin,
        digest = &*caller.digest,
        pod.namespace = caller.pod.namespace,
        pod.name = caller.pod.name,
        pod.uid = caller.pod.uid,
        requests,
        "egress requests refused, as the budget of the call was used up"
    );
}
