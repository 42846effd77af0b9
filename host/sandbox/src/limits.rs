//! What one call of a provider may use. Part of the grant; every field has a default that suits a provider written in
//! Rust, and a provider in another language needs more (see `docs/writing-a-provider.md`).

use std::time::Duration;

/// Limits of one call and of the component itself. All sizes are bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Size of the component.
    pub component: usize,
    /// Time for compiling it.
    pub compile_time: Duration,
    /// Address space of the compiling process.
    pub compile_memory: u64,
    /// Linear memory, all memories together.
    pub memory: usize,
    /// Elements of all tables together.
    pub table_elements: usize,
    /// Time the guest itself may compute.
    pub cpu: Duration,
    /// Time of a call, waiting included.
    pub deadline: Duration,
    /// What egress may use.
    pub egress: EgressLimits,
    /// Files of a result.
    pub files: usize,
    /// Contents of all files of a result together.
    pub file_bytes: usize,
    /// Object versions of a result.
    pub objects: usize,
    /// Session state.
    pub session: usize,
    /// One message: a failure, a log line, an object id or version.
    pub message: usize,
    /// Log lines of a call.
    pub log_lines: usize,
}

impl Limits {
    /// How many bytes may pass from the guest to the host in one call of a function: the largest honest answer, or the
    /// largest honest batch of requests. Stops a guest that names the same memory a thousand times.
    pub(crate) fn transfer(&self) -> usize {
        let records = self.files.saturating_add(self.objects).saturating_mul(512);
        let answer = self.file_bytes.saturating_add(self.session).saturating_add(records);
        let batch = usize::try_from(self.egress.bytes_out).unwrap_or(usize::MAX);
        answer.max(batch).saturating_add(1 << 20)
    }
}

/// Limits of the requests of one call. All sizes are bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressLimits {
    /// Requests, retries included.
    pub requests: u32,
    /// Requests at the same time.
    pub concurrent: usize,
    /// Method, URL, headers and bodies of all requests, retries included.
    pub bytes_out: u64,
    /// Headers and bodies of all responses.
    pub bytes_in: u64,
    /// Body of one response.
    pub response: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            component: 32 << 20,
            compile_time: Duration::from_secs(60),
            compile_memory: 2 << 30,
            memory: 64 << 20,
            table_elements: 20_000,
            cpu: Duration::from_secs(2),
            deadline: Duration::from_secs(60),
            egress: EgressLimits::default(),
            files: 1_000,
            file_bytes: 4 << 20,
            objects: 2_000,
            session: 64 << 10,
            message: 4 << 10,
            log_lines: 200,
        }
    }
}

impl Default for EgressLimits {
    fn default() -> Self {
        Self { requests: 500, concurrent: 32, bytes_out: 4 << 20, bytes_in: 32 << 20, response: 4 << 20 }
    }
}
