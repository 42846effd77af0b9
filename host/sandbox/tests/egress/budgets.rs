//! How much a call may use.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use coffer_sandbox::egress::{Egress, Error, Outbound, Request};

use crate::world::*;

async fn kilobyte(_: http::Request<bytes::Bytes>) -> Answer {
    http::Response::new(http_body_util::Full::new(vec![b'x'; 1024].into()))
}

fn numbered(server: &Server, count: usize) -> Vec<Request> {
    (0..count).map(|n| get(format!("http://{}/{n}", server.address))).collect()
}

fn egress(server: &Server) -> Arc<Egress> {
    Egress::new(vec![rule(&format!("GET,POST http://{}/", server.address))], plain_settings()).unwrap()
}

#[tokio::test]
async fn a_batch_runs_as_wide_as_the_limit_and_no_wider() {
    let barrier = Arc::new(tokio::sync::Barrier::new(4));
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (known_now, known_most) = (Arc::clone(&now), Arc::clone(&most));
    // Nobody is answered before four are there.
    let server = Server::http(move |_| {
        let (barrier, now, most) = (Arc::clone(&barrier), Arc::clone(&known_now), Arc::clone(&known_most));
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            barrier.wait().await;
            now.fetch_sub(1, Ordering::SeqCst);
            answer(200, &[], "")
        }
    })
    .await;
    let gate = egress(&server).open(limited(|limits| limits.concurrent = 4));
    let answers = gate.send(numbered(&server, 20)).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(most.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn a_hostile_batch_ends_with_the_budget_and_leaves_bounded_records() {
    let server = Server::http(kilobyte).await;
    let gate = egress(&server).open(limited(|limits| limits.requests = 50));
    let requests = (0..10_000).map(|n| get(format!("http://other{n}.example/"))).collect();
    let answers = gate.send(requests).await;
    assert_eq!(answers.len(), 10_000);
    assert_eq!(answers.iter().filter(|answer| matches!(answer, Err(Error::Denied(_)))).count(), 50);
    assert_eq!(answers.iter().filter(|answer| matches!(answer, Err(Error::Exhausted(_)))).count(), 9_950);
    assert_eq!((gate.records().len(), gate.unrecorded()), (50, 9_950));
    let Err(Error::Exhausted(text)) = send(&gate, get(format!("http://{}/", server.address))).await else {
        panic!("the budget came back")
    };
    assert_eq!(text, "the call has used up `requests` of the grant (50)");
    assert_eq!(server.seen.requests(), 0);
}

#[tokio::test]
async fn retries_are_requests_too() {
    let server = Server::http(|_| async { answer(503, &[("Retry-After", "0")], "busy") }).await;
    let gate = egress(&server).open(limited(|limits| limits.requests = 3));
    let response = send(&gate, get(format!("http://{}/", server.address))).await.unwrap();
    assert_eq!((response.status, server.seen.requests()), (503, 3));
}

#[tokio::test]
async fn bytes_out_count_before_they_are_sent() {
    let server = Server::http(kilobyte).await;
    let gate = egress(&server).open(limited(|limits| limits.bytes_out = 1000));
    let post = |size| Request {
        method: "POST".to_owned(),
        body: vec![b'x'; size],
        ..get(format!("http://{}/", server.address))
    };
    assert_eq!(send(&gate, post(800)).await.unwrap().status, 200);
    let Err(Error::Exhausted(text)) = send(&gate, post(800)).await else { panic!("too much was sent") };
    assert_eq!(text, "the call has used up `bytesOut` of the grant (1000)");
    assert_eq!(server.seen.requests(), 1);
    let records = gate.records();
    assert!(records[0].bytes_out > 800, "{records:?}");
    assert_eq!(records[1].bytes_out, 0);
}

#[tokio::test]
async fn a_response_over_the_limit_is_not_read_to_its_end() {
    let server = Server::http(kilobyte).await;
    let gate = egress(&server).open(limited(|limits| limits.response = 1023));
    let Err(Error::TooLarge(text)) = send(&gate, get(format!("http://{}/", server.address))).await else {
        panic!("too much was taken")
    };
    assert!(text.contains("larger than 1023 bytes"), "{text}");
    let gate = egress(&server).open(limited(|limits| limits.response = 1024));
    assert_eq!(send(&gate, get(format!("http://{}/", server.address))).await.unwrap().body.len(), 1024);
}

#[tokio::test]
async fn a_response_without_a_length_ends_at_the_limit() {
    // A server that would never stop.
    let server = Server::listen(Arc::default(), |mut stream| async move {
        use tokio::io::AsyncWriteExt;
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
        while stream.write_all(b"400\r\n").await.is_ok()
            && stream.write_all(&[b'x'; 1024]).await.is_ok()
            && stream.write_all(b"\r\n").await.is_ok()
        {}
    })
    .await;
    let gate = egress(&server).open(limited(|limits| limits.response = 64 << 10));
    let result = send(&gate, get(format!("http://{}/", server.address))).await;
    assert!(matches!(result, Err(Error::TooLarge(_))), "{result:?}");
    let gate = egress(&server).open(limited(|limits| limits.bytes_in = 64 << 10));
    let result = send(&gate, get(format!("http://{}/", server.address))).await;
    assert!(matches!(result, Err(Error::Exhausted(_))), "{result:?}");
}

#[tokio::test]
async fn bytes_in_are_shared_by_the_responses_of_a_call() {
    let server = Server::http(kilobyte).await;
    let gate = egress(&server).open(limited(|limits| limits.bytes_in = 3000));
    let mut sizes = Vec::new();
    for request in numbered(&server, 4) {
        sizes.push(send(&gate, request).await.map(|response| response.body.len()).map_err(|error| error.kind()));
    }
    assert_eq!(sizes, [Ok(1024), Ok(1024), Err("exhausted"), Err("exhausted")]);
}
