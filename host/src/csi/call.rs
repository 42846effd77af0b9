//! One call of kubelet: its deadline, its end in every case, and the one line that the log gets of it.
//!
//! The line names method, volume, pod, duration and code. Nothing else of a request may be written anywhere: attributes
//! are the pod author's, secrets and tokens are secrets.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use coffer_sandbox::provider::Pod;
use futures_util::FutureExt;
use tokio::time::Instant;
use tonic::metadata::MetadataMap;
use tonic::{Code, Response, Status};

use super::status::Refusal;

/// The longest call, whatever the caller says; kubelet waits for two minutes.
pub(super) const LONGEST: Duration = Duration::from_secs(300);

/// A call that has begun. Dropped before its end, it says so: the caller went away or its time is up.
pub(super) struct Call {
    method: &'static str,
    volume: String,
    pod: String,
    begun: Instant,
    ended: bool,
}

impl Call {
    pub(super) fn begin(method: &'static str) -> Self {
        Self { method, volume: String::new(), pod: String::new(), begun: Instant::now(), ended: false }
    }

    /// Names the volume that the call is about.
    pub(super) fn is_about(&mut self, volume: &str) {
        volume.clone_into(&mut self.volume);
    }

    /// Names the pod that the call is for.
    pub(super) fn is_for(&mut self, pod: &Pod) {
        self.pod = format!("{}/{}", pod.namespace, pod.name);
    }

    /// Runs it to its end. A panic ends the call and nothing else.
    pub(super) async fn run<T>(
        mut self,
        work: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<Response<T>, Status> {
        let result = AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_| Err(panicked(self.method)));
        self.ended = true;
        let (method, volume, pod, duration) = (self.method, &*self.volume, &*self.pod, self.begun.elapsed());
        match result {
            Ok(response) => {
                tracing::debug!(method, volume, pod, ?duration, code = ?Code::Ok, "answered");
                Ok(Response::new(response))
            }
            Err(refusal) => {
                tracing::warn!(method, volume, pod, ?duration, code = ?refusal.code, "{refusal}");
                Err(refusal.into())
            }
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.ended {
            let (method, volume, pod, duration) = (self.method, &*self.volume, &*self.pod, self.begun.elapsed());
            tracing::warn!(method, volume, pod, ?duration, "the caller stopped waiting before there was an answer");
        }
    }
}

fn panicked(method: &str) -> Refusal {
    let message =
        format!("{method} ended by a fault in Coffer; its log says where (`panicked at`), please report that");
    Refusal::new(Code::Internal, message)
}

/// When the caller stops waiting, by the header `grpc-timeout`.
pub(super) fn deadline(metadata: &MetadataMap) -> Instant {
    let asked = metadata.get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(parse_timeout);
    Instant::now() + asked.map_or(LONGEST, |asked| asked.min(LONGEST))
}

/// At most eight digits and a unit, as gRPC has it.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        let cases = [("2M", 120_000), ("119999999u", 0), ("99999999n", 99), ("1500m", 1500), ("3S", 3000)];
        for (text, millis) in cases {
            let expected = (millis > 0).then_some(millis);
            assert_eq!(parse_timeout(text).map(|timeout| timeout.as_millis()), expected, "{text}");
        }
        assert_eq!(parse_timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for wrong in ["", "S", "1", "1s", "-1S", "+1S", "1.5S", "1 S", "123456789S", "1€"] {
            assert_eq!(parse_timeout(wrong), None, "{wrong}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_is_the_callers_and_never_too_far_away() {
        let deadline = |timeout: &'static str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", timeout.parse().unwrap());
            deadline(&metadata) - Instant::now()
        };
        assert_eq!(deadline("2M"), Duration::from_secs(120));
        assert_eq!(deadline("2H"), LONGEST);
        assert_eq!(deadline("soon"), LONGEST);
    }
}
