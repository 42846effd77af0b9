//! What is looked up when somebody scrapes, as it would be stale otherwise: the volumes, the hosts and the process.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coffer_sandbox::egress::Pace;
use coffer_sandbox::egress::pace::Paced;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::process;

/// The published volumes at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Volumes {
    /// How many.
    pub count: usize,
    /// The time since the last successful check of the volume whose check is the oldest; none without a volume.
    pub oldest_check: Option<Duration>,
    /// How many have files from a kept result that nobody has confirmed since.
    pub offline: usize,
}

type Source = Arc<dyn Fn() -> Volumes + Send + Sync>;

/// Asks for the values of a scrape. Clones share the source.
#[derive(Clone, Default)]
pub(super) struct Scraped {
    source: Arc<Mutex<Option<Source>>>,
    pace: Arc<Mutex<Option<Pace>>>,
}

impl Scraped {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let scraped = Self::default();
        registry.register_collector(Box::new(scraped.clone()));
        scraped
    }

    pub(super) fn set_source(&self, source: impl Fn() -> Volumes + Send + Sync + 'static) {
        *self.source.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(source));
    }

    pub(super) fn set_pace(&self, pace: Pace) {
        *self.pace.lock().unwrap_or_else(PoisonError::into_inner) = Some(pace);
    }

    fn paced(&self) -> Paced {
        let pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner).clone();
        pace.map(|pace| pace.look()).unwrap_or_default()
    }

    fn volumes(&self) -> Volumes {
        // The source is called without the lock.
        let source = self.source.lock().unwrap_or_else(PoisonError::into_inner).clone();
        source.map(|ask| ask()).unwrap_or_default()
    }
}

impl fmt::Debug for Scraped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scraped")
    }
}

impl Collector for Scraped {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Volumes { count, oldest_check, offline } = self.volumes();
        gauge(&mut encoder, "coffer_volumes", "Published volumes.", Some(count as f64))?;
        let help = "Published volumes with the files of a kept result, which nobody has confirmed since.";
        gauge(&mut encoder, "coffer_offline_volumes", help, Some(offline as f64))?;
        let age = oldest_check.map(|age| age.as_secs_f64());
        gauge(
            &mut encoder,
            "coffer_refresh_age_seconds",
            "The time since the oldest last successful check of a volume.",
            age,
        )?;
        let Paced { throttled, unavailable, waiting } = self.paced();
        let help = "Hosts that asked for fewer requests and are asked at a pace since.";
        gauge(&mut encoder, "coffer_egress_throttled_hosts", help, Some(throttled as f64))?;
        let help = "Hosts that do not answer and are asked by one request at a time.";
        gauge(&mut encoder, "coffer_egress_unavailable_hosts", help, Some(unavailable as f64))?;
        let help = "Requests that wait until their host is asked again.";
        gauge(&mut encoder, "coffer_egress_waiting_requests", help, Some(waiting as f64))?;
        let process = process::look();
        let cpu = ConstCounter::new(process.cpu_seconds);
        let help = "Processor time of this process.";
        cpu.encode(encoder.encode_descriptor("process_cpu_seconds", help, None, cpu.metric_type())?)?;
        gauge(&mut encoder, "process_resident_memory_bytes", "Memory of this process.", process.resident_bytes)?;
        gauge(&mut encoder, "process_open_fds", "Open file descriptors of this process.", process.open_files)?;
        gauge(
            &mut encoder,
            "process_start_time_seconds",
            "When this process started, in seconds since 1970.",
            process.started,
        )
    }
}

/// What is not known is left out, rather than said to be 0.
fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: Option<f64>) -> fmt::Result {
    let Some(value) = value else { return Ok(()) };
    let gauge = ConstGauge::new(value);
    gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
}
