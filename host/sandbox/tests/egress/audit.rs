//! One line per request, and nothing secret in it.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use coffer_sandbox::egress::{Egress, Ending, Error, Outbound, Request};
use tracing::field::{Field, Visit};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};

use crate::world::*;

/// Keeps the fields of every audit event, and the text of all others.
#[derive(Clone, Default)]
struct Lines {
    audit: Arc<Mutex<Vec<String>>>,
    other: Arc<Mutex<String>>,
}

impl<S: tracing::Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        match event.metadata().target() {
            "coffer::audit" => self.audit.lock().unwrap().push(text.0),
            _ => self.other.lock().unwrap().push_str(&text.0),
        }
    }
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() != "duration_ms" {
            write!(self.0, "{}={value:?} ", field.name()).unwrap();
        }
    }
}

async fn hello(_: http::Request<bytes::Bytes>) -> Answer {
    answer(200, &[("X-Canary", "canary-header")], "canary-body")
}

#[tokio::test]
async fn every_request_is_one_line_without_secrets() {
    let lines = Lines::default();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(lines.clone()));
    let server = Server::http(hello).await;
    let text = format!("GET,POST http://{}/", server.address);
    let gate = Egress::new(vec![rule(&text)], plain_settings()).unwrap().open(caller());
    let url = |rest: &str| format!("http://{}{rest}", server.address);
    let requests = vec![
        with_header(get(url("/a/tok-canary-1/b?q=canary-query")), "Authorization", "Bearer tok-canary-1"),
        Request { method: "POST".to_owned(), body: b"canary-out".to_vec(), ..get(url("/post")) },
        with_header(get("http://other.example/x?q=canary-query"), "Authorization", "tok-canary-2"),
        with_header(get(url("/injected")), "X-A", "canary-value\r\nHost: x"),
        get("not a url canary-query"),
        Request { method: "canary query".to_owned(), ..get(url("/method")) },
    ];
    let answers = gate.send(requests).await;
    let host = server.address.to_string();
    let common = "plugin=\"azure\" digest=\"sha256:00\" pod.namespace=\"shop\" pod.name=\"web\" pod.uid=\"1234\" ";
    let mut audit = lines.audit.lock().unwrap().clone();
    audit.sort();
    let line = |rest: String| format!("message=egress request {common}{rest}");
    let sent = |rule_method: &str, path: &str, out: usize| {
        let size = "x-canary".len() + "canary-header".len() + "content-length".len() + 2;
        // The server's `date`.
        let size = size + "date".len() + 29 + "canary-body".len();
        line(format!(
            "rule=\"{text}\" method=\"{rule_method}\" host=\"{host}\" path=\"{path}\" status=200 attempts=1 \
             bytes_out={out} bytes_in={size} "
        ))
    };
    let failed = |method: &str, host: &str, path: &str, error: &str| {
        line(format!(
            "method=\"{method}\" host=\"{host}\" path=\"{path}\" error=\"{error}\" attempts=0 bytes_out=0 bytes_in=0 "
        ))
    };
    let mut expected = vec![
        sent("GET", "/a/[redacted]/b", 3 + url("/a/tok-canary-1/b?q=canary-query").len() + 13 + 19),
        sent("POST", "/post", 4 + url("/post").len() + 10),
        failed("GET", "other.example", "/x", "denied"),
        failed("GET", &host, "/injected", "protocol"),
        failed("GET", "", "", "protocol"),
        failed("canary query", &host, "/method", "protocol"),
    ];
    expected.sort();
    assert_eq!(audit, expected);

    let records = gate.records();
    assert_eq!(records.len(), 6);
    assert_eq!(records[0].ending, Ending::Status(200));
    assert_eq!(records[0].rule.as_deref(), Some(text.as_str()));
    for (answer, record) in answers.iter().zip(&records) {
        match answer {
            Ok(response) => assert_eq!(record.ending, Ending::Status(response.status)),
            Err(error) => {
                assert_eq!(record.ending, Ending::Failed(error.clone()));
                assert!(!error.to_string().contains("canary"), "{error}");
            }
        }
    }
    let debug = format!("{answers:?} {records:?}").replace("\"canary query\"", "");
    assert!(!debug.contains("canary"), "{debug}");
    drop(gate);
    assert!(!lines.other.lock().unwrap().contains("canary"));
}

#[tokio::test]
async fn what_has_no_line_of_its_own_is_counted_at_the_end() {
    let lines = Lines::default();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(lines.clone()));
    let gate = Egress::new(Vec::new(), plain_settings()).unwrap().open(limited(|limits| limits.requests = 2));
    let answers = gate.send((0..100).map(|_| get("https://a.example/")).collect()).await;
    assert!(matches!(answers[99], Err(Error::Exhausted(_))));
    assert_eq!(lines.audit.lock().unwrap().len(), 2);
    drop(gate);
    let lines = lines.audit.lock().unwrap();
    assert_eq!(lines.len(), 3);
    assert!(lines[2].contains("requests=98"), "{}", lines[2]);
}
