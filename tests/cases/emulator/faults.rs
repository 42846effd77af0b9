//! Every fault as a client sees it.

use std::time::{Duration, SystemTime};

use coffer_tests::harness::{
    Action, Collection, Emulator, Fault, Gate, Kind, Matcher, Quota, RetryAfter, Settings, Times, TlsFault,
};
use http_body_util::BodyExt;
use tokio::time;

use super::client::{Client, KV, LOGIN, get, soon};
use super::{APP, TENANT, VALUE, furnished, signed_in};

const DEMO: &str = "/secrets/DemoSecret/?api-version=7.4";

fn secrets() -> Matcher {
    Matcher::kind(Kind::GetSecret)
}

/// Waits for a request to be answered while the first one must not be.
async fn outlives<T>(first: impl Future<Output = T>, client: &Client) {
    let other = async {
        let reply = client.get(LOGIN, "/common/discovery/instance", None).await;
        assert_eq!(reply.status, 200);
    };
    tokio::select! {
        biased;
        _ = first => panic!("what should have waited came to an end"),
        () = other => {}
    }
}

#[tokio::test]
async fn throttling_lasts_as_often_as_planned_and_says_when_to_come_back() {
    let (emulator, client, token) = signed_in().await;
    let date = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    emulator.inject(secrets(), Fault::throttled(Some(RetryAfter::Seconds(7))), Times::Next(2));
    emulator.inject(secrets(), Fault::throttled(Some(RetryAfter::At(date))), Times::ONCE);
    let mut seen = Vec::new();
    for _ in 0..4 {
        let reply = client.get(KV, DEMO, Some(&token)).await;
        seen.push((reply.status, reply.header("retry-after").to_owned(), reply.text("/error/code")));
    }
    let throttled = |after: &str| (429, after.to_owned(), "Throttled".to_owned());
    let date = "Tue, 14 Nov 2023 22:13:20 GMT";
    assert_eq!(seen, [throttled("7"), throttled("7"), throttled(date), (200, String::new(), String::new())]);
    let faults: Vec<Option<&str>> = emulator.entries().iter().skip(1).map(|entry| entry.fault).collect();
    assert_eq!(faults, [Some("answer"), Some("answer"), Some("answer"), None]);
}

#[tokio::test]
async fn the_vault_can_fail_until_it_is_told_to_recover() {
    let (emulator, client, token) = signed_in().await;
    emulator.inject(secrets(), Fault::internal(), Times::ONCE);
    emulator.inject(secrets(), Fault::unavailable(None), Times::Always);
    for status in [500, 503, 503] {
        assert_eq!(client.get(KV, DEMO, Some(&token)).await.status, status);
    }
    emulator.clear_faults();
    assert_eq!(client.get(KV, DEMO, Some(&token)).await.status, 200);
}

#[tokio::test]
async fn a_fault_meets_only_what_it_is_planned_for() {
    let (emulator, client, token) = signed_in().await;
    let vault = emulator.tenant(TENANT).vault("other");
    vault.allow(APP, Collection::Secrets, &[Action::Get]);
    vault.secret("DemoSecret").set(VALUE);
    vault.secret("Second").set(VALUE);
    let matcher = secrets().host("Other.vault.azure.net").path("/Second");
    emulator.inject(matcher, Fault::internal(), Times::Always);
    assert_eq!(client.get(KV, DEMO, Some(&token)).await.status, 200);
    assert_eq!(client.get(vault.host(), DEMO, Some(&token)).await.status, 200);
    assert_eq!(client.get(vault.host(), "/secrets/Second?api-version=7.4", Some(&token)).await.status, 500);
}

#[tokio::test]
async fn a_quota_refuses_what_is_too_much_until_its_window_is_over() {
    let (emulator, client, token) = signed_in().await;
    let quota = Quota { requests: 3, window: Duration::from_secs(10), says_when: true };
    emulator.quota(Some(quota));
    let mut statuses = Vec::new();
    for seconds in [0, 0, 0, 0, 9, 1, 0] {
        emulator.clock().advance(Duration::from_secs(seconds));
        let reply = client.get(KV, DEMO, Some(&token)).await;
        statuses.push(reply.status);
        if reply.status == 429 {
            let wait: u64 = reply.header("retry-after").parse().unwrap();
            assert!((1..=10).contains(&wait), "{wait}");
        }
    }
    assert_eq!(statuses, [200, 200, 200, 429, 429, 200, 200]);
    emulator.quota(Some(Quota { requests: 0, says_when: false, ..quota }));
    let reply = client.get(KV, DEMO, Some(&token)).await;
    assert_eq!((reply.status, reply.header("retry-after")), (429, ""));
}

#[tokio::test]
async fn challenges_and_redirects_are_sent_as_planned() {
    let (emulator, client, token) = signed_in().await;
    for challenge in ["Bearer authorization=\"x\"", "Basic realm=\"x\"", ",=,"] {
        emulator.inject(secrets(), Fault::challenge(challenge), Times::ONCE);
        let reply = client.get(KV, DEMO, Some(&token)).await;
        assert_eq!((reply.status, reply.header("www-authenticate")), (401, challenge));
    }
    emulator.inject(Matcher::any(), Fault::redirect(307, "https://evil.example/"), Times::ONCE);
    let reply = client.get(KV, DEMO, Some(&token)).await;
    assert_eq!((reply.status, reply.header("location")), (307, "https://evil.example/"));
}

#[tokio::test]
async fn a_stalled_request_is_never_answered_and_ends_with_its_client() {
    let (emulator, client, token) = signed_in().await;
    for client in [client, Client::http2_of(&emulator)] {
        emulator.log().clear();
        emulator.inject(secrets(), Fault::Stall, Times::ONCE);
        let stalled = tokio::spawn({
            let (client, token) = (client.clone(), token.clone());
            async move { client.send(KV, get(KV, DEMO, Some(&token))).await.is_ok() }
        });
        soon(emulator.log().arrived(Kind::GetSecret, 1)).await;
        assert_eq!(emulator.counters().in_flight(Kind::GetSecret), 1);
        stalled.abort();
        soon(emulator.log().until(|counters| counters.in_flight(Kind::GetSecret) == 0)).await;
        let entry = emulator.entries().pop().unwrap();
        assert_eq!((entry.status, entry.fault), (None, Some("stall")));
    }
}

#[tokio::test]
async fn a_body_that_stalls_has_a_whole_length_and_half_its_bytes() {
    let (emulator, client, token) = signed_in().await;
    for speaker in [client.clone(), Client::http2_of(&emulator)] {
        emulator.inject(secrets(), Fault::StallInBody, Times::ONCE);
        let mut response = soon(speaker.open(KV, get(KV, DEMO, Some(&token)))).await.unwrap();
        let length: usize = response.headers()["content-length"].to_str().unwrap().parse().unwrap();
        let mut read = 0;
        while read < length / 2 {
            let frame = soon(response.body_mut().frame()).await.unwrap().unwrap();
            read += frame.data_ref().unwrap().len();
        }
        assert_eq!(read, length / 2);
        outlives(response.body_mut().frame(), &client).await;
    }
}

#[tokio::test]
async fn damaged_bodies_are_errors_to_a_client_that_looks() {
    let (emulator, client, token) = signed_in().await;
    for client in [client, Client::http2_of(&emulator)] {
        for fault in [Fault::CutBody, Fault::LengthTooLong] {
            emulator.inject(secrets(), fault, Times::ONCE);
            let response = soon(client.open(KV, get(KV, DEMO, Some(&token)))).await.unwrap();
            assert_eq!(response.status(), 200);
            assert!(soon(response.into_body().collect()).await.is_err());
        }
        assert_eq!(client.get(KV, DEMO, Some(&token)).await.text("/value"), VALUE);
    }
}

#[tokio::test]
async fn a_length_too_short_cuts_the_document_on_http1_and_breaks_the_stream_on_http2() {
    let (emulator, client, token) = signed_in().await;
    let whole = client.get(KV, DEMO, Some(&token)).await.body.len();
    emulator.inject(secrets(), Fault::LengthTooShort, Times::Next(2));
    let reply = client.get(KV, DEMO, Some(&token)).await;
    assert_eq!((reply.status, reply.body.len()), (200, whole / 2));
    assert!(serde_json::from_slice::<serde_json::Value>(&reply.body).is_err());
    assert!(Client::http2_of(&emulator).try_get(KV, DEMO, Some(&token)).await.is_err());
}

#[tokio::test]
async fn an_endless_body_goes_on_for_as_long_as_it_is_read() {
    let (emulator, client, token) = signed_in().await;
    for client in [client, Client::http2_of(&emulator)] {
        emulator.inject(secrets(), Fault::EndlessBody, Times::ONCE);
        let mut response = soon(client.open(KV, get(KV, DEMO, Some(&token)))).await.unwrap();
        let mut read = 0;
        while read < 8 * 1024 * 1024 {
            read += soon(response.body_mut().frame()).await.unwrap().unwrap().data_ref().unwrap().len();
        }
    }
}

#[tokio::test]
async fn garbage_and_a_closed_connection_are_errors_before_any_answer() {
    let (emulator, client, token) = signed_in().await;
    for client in [client, Client::http2_of(&emulator)] {
        for fault in [Fault::Garbage, Fault::Close] {
            emulator.inject(secrets(), fault, Times::ONCE);
            assert!(soon(client.open(KV, get(KV, DEMO, Some(&token)))).await.is_err());
        }
        assert_eq!(client.get(KV, DEMO, Some(&token)).await.status, 200);
    }
}

#[tokio::test]
async fn each_bad_handshake_fails_for_its_own_reason_and_the_next_succeeds() {
    let emulator = furnished().await;
    let client = Client::of(&emulator);
    for (fault, reason) in [
        (TlsFault::WrongName, "certificate not valid for name"),
        (TlsFault::Expired, "certificate expired"),
        (TlsFault::NotYetValid, "certificate not valid yet"),
        (TlsFault::SelfSigned, "UnknownIssuer"),
        (TlsFault::Garbage, "corrupt message"),
        (TlsFault::Close, "handshake eof"),
    ] {
        emulator.inject_tls(KV, fault, Times::ONCE);
        let error = soon(client.connect(KV)).await.unwrap_err().to_string();
        assert!(error.contains(reason), "{fault:?}: {error}");
        soon(client.connect(KV)).await.unwrap();
    }
    soon(emulator.log().until(|counters| counters.handshakes == 6)).await;
    assert_eq!(emulator.counters().connections, 12);
}

#[tokio::test]
async fn a_stalled_handshake_waits_and_holds_up_nobody_else() {
    let emulator = furnished().await;
    let client = Client::of(&emulator);
    emulator.inject_tls(KV, TlsFault::Stall, Times::ONCE);
    let stalled = client.connect(KV);
    tokio::pin!(stalled);
    outlives(&mut stalled, &client).await;
    soon(emulator.log().until(|counters| counters.connections == 2)).await;
}

#[tokio::test]
async fn held_requests_are_in_the_house_together_and_go_on_when_the_gate_opens() {
    let (emulator, client, token) = signed_in().await;
    let gate = Gate::new();
    emulator.inject(secrets(), Fault::Hold(gate.clone()), Times::Always);
    let all = async { tokio::join!(client.get(KV, DEMO, Some(&token)), client.get(KV, DEMO, Some(&token))) };
    let opened = async {
        soon(gate.arrived(2)).await;
        assert_eq!(emulator.counters().in_flight(Kind::GetSecret), 2);
        gate.open();
    };
    let ((one, other), ()) = tokio::join!(all, opened);
    assert_eq!((one.text("/value"), other.text("/value")), (VALUE.to_owned(), VALUE.to_owned()));
    assert_eq!(emulator.counters().peak(Kind::GetSecret), 2);
}

#[tokio::test]
async fn latency_delays_the_vaults_and_not_the_tokens() {
    let (emulator, client, token) = signed_in().await;
    let long = Duration::from_secs(24 * 60 * 60);
    emulator.latency(long);
    // Without `soon`, whose deadline would pass when the clock is moved.
    let slow = client.send(KV, get(KV, DEMO, Some(&token)));
    tokio::pin!(slow);
    tokio::select! {
        _ = &mut slow => panic!("the answer came at once"),
        () = soon(emulator.log().arrived(Kind::GetSecret, 1)) => {}
    }
    outlives(&mut slow, &client).await;
    time::pause();
    time::advance(long).await;
    time::resume();
    assert_eq!(soon(slow).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_dropped_emulator_takes_its_connections_along() {
    let (emulator, client, token) = signed_in().await;
    for client in [&client, &Client::http2_of(&emulator)] {
        emulator.inject(secrets(), Fault::StallInBody, Times::ONCE);
        let response = soon(client.open(KV, get(KV, DEMO, Some(&token)))).await.unwrap();
        drop(response);
    }
    emulator.inject(secrets(), Fault::Stall, Times::ONCE);
    let stalled = client.try_get(KV, DEMO, Some(&token));
    let dropped = async {
        soon(emulator.log().until(|counters| counters.in_flight(Kind::GetSecret) == 1)).await;
        drop(emulator);
    };
    let (stalled, ()) = tokio::join!(stalled, dropped);
    assert!(stalled.is_err());
    assert!(soon(client.connect(KV)).await.is_err());
    // The client's tasks end with their connections, so none of the emulator's is left either.
    let metrics = tokio::runtime::Handle::current().metrics();
    let ended = async {
        while metrics.num_alive_tasks() > 0 {
            tokio::task::yield_now().await;
        }
    };
    soon(ended).await;
}

#[tokio::test]
async fn a_stopped_emulator_lets_open_requests_finish() {
    let (emulator, client, token) = signed_in().await;
    let gate = Gate::new();
    emulator.inject(secrets(), Fault::Hold(gate.clone()), Times::ONCE);
    let held = client.get(KV, DEMO, Some(&token));
    let stopped = async {
        soon(gate.arrived(1)).await;
        let stopping = emulator.stop();
        let opened = async {
            // The listener goes first, so a refused connection tells that the stop has begun.
            while soon(client.connect(KV)).await.is_ok() {}
            gate.open();
        };
        tokio::join!(stopping, opened);
    };
    let (reply, ()) = tokio::join!(held, stopped);
    assert_eq!(reply.text("/value"), VALUE);
}

#[tokio::test]
async fn the_log_keeps_the_newest_requests_and_tells_subscribers_of_each() {
    let emulator = Emulator::start(Settings { log_capacity: 2, ..Settings::default() }).await.unwrap();
    let client = Client::of(&emulator);
    let mut told = emulator.log().subscribe();
    for number in 0..4 {
        client.get(LOGIN, &format!("/{number}"), None).await;
    }
    let kept: Vec<(u64, String)> = emulator.entries().into_iter().map(|entry| (entry.sequence, entry.path)).collect();
    assert_eq!(kept, [(2, "/2".to_owned()), (3, "/3".to_owned())]);
    for number in 0..4 {
        let entry = soon(told.recv()).await.unwrap();
        assert_eq!((entry.sequence, entry.status), (number, Some(404)));
    }
    assert_eq!(emulator.counters().of(Kind::Other), 4);
}
