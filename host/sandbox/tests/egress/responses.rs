//! What comes back: as it is, or a precise error.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use coffer_sandbox::egress::{Egress, Ending, Error, Outbound, Request};

use crate::world::*;

async fn raw(bytes: &'static [u8]) -> Result<coffer_sandbox::egress::Response, Error> {
    let server = Server::raw(bytes).await;
    let gate = open(vec![rule(&format!("GET http://{}/", server.address))], plain_settings());
    send(&gate, once(format!("http://{}/", server.address))).await
}

#[tokio::test]
async fn a_response_is_handed_over_as_it_is() {
    let response =
        raw(b"HTTP/1.1 404 Gone Fishing\r\nX-Odd: \xff\xfe\r\nContent-Encoding: gzip\r\nX-Two: 1\r\nX-Two: 2\r\nContent-Length: 3\r\n\r\nabc")
            .await
            .unwrap();
    assert_eq!((response.status, body(&response)), (404, "abc"));
    let pairs: Vec<_> = response.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(pairs, [("content-encoding", "gzip"), ("x-two", "1"), ("x-two", "2"), ("content-length", "3")]);
}

#[tokio::test]
async fn a_redirect_is_an_answer() {
    let server = Server::http(|_| async { answer(307, &[("Location", "http://169.254.169.254/")], "") }).await;
    let gate = open(vec![rule(&format!("GET,POST http://{}/", server.address))], plain_settings());
    let response = send(&gate, get(format!("http://{}/a", server.address))).await.unwrap();
    assert_eq!(response.status, 307);
    assert!(response.headers.contains(&("location".to_owned(), "http://169.254.169.254/".to_owned())));
    assert_eq!(server.seen.paths(), ["/a"]);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_a_protocol_error() {
    let cases: [&[u8]; 3] = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Len",
    ];
    for bytes in cases {
        let Err(Error::Protocol(text)) = raw(bytes).await else { panic!("{bytes:?} was taken") };
        assert!(text.contains("closed the connection before its response was complete"), "{text}");
    }
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_a_protocol_error() {
    let cases: [&[u8]; 4] = [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nBad Header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ];
    for bytes in cases {
        let result = raw(bytes).await;
        let Err(Error::Protocol(text)) = result else { panic!("{bytes:?} gave {result:?}") };
        assert!(text.contains("127.0.0.1"), "{text}");
    }
}

#[tokio::test]
async fn bytes_after_the_announced_length_are_not_part_of_any_response() {
    let response =
        raw(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
            .await
            .unwrap();
    assert_eq!(body(&response), "abc");
}

#[tokio::test]
async fn a_bad_moment_of_the_server_is_waited_out() {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    let server = Server::http(move |_| {
        let nth = counter.fetch_add(1, Ordering::SeqCst);
        async move {
            match nth {
                0 => answer(503, &[("Retry-After-Ms", "1")], "busy"),
                1 => answer(429, &[("Retry-After", "Sun, 06 Nov 1994 08:49:37 GMT")], "slow down"),
                _ => answer(200, &[], "here"),
            }
        }
    })
    .await;
    let gate = open(vec![rule(&format!("GET http://{}/", server.address))], plain_settings());
    let response = send(&gate, get(format!("http://{}/a", server.address))).await.unwrap();
    assert_eq!((response.status, body(&response)), (200, "here"));
    assert_eq!(server.seen.connections(), 1, "the connection of a retried response is used again");
    let record = gate.records().remove(0);
    assert_eq!((record.attempts, record.ending), (3, Ending::Status(200)));
    assert!(record.bytes_in > ("busy".len() + "slow down".len() + "here".len()) as u64);
}

#[tokio::test]
async fn what_must_not_happen_twice_is_sent_once() {
    let server = Server::http(|_| async { answer(503, &[("Retry-After", "0")], "busy") }).await;
    let gate = open(vec![rule(&format!("POST http://{}/", server.address))], plain_settings());
    let request =
        Request { method: "POST".to_owned(), body: b"x=1".to_vec(), ..get(format!("http://{}/", server.address)) };
    assert_eq!(send(&gate, request).await.unwrap().status, 503);
    assert_eq!(server.seen.requests(), 1);
    assert_eq!(server.seen.request(0).body(), &Bytes::from_static(b"x=1"));
}

#[tokio::test]
async fn a_silent_server_ends_with_the_attempts_time_or_the_deadline() {
    let server = Server::http(|_| std::future::pending()).await;
    let egress = Egress::new(vec![rule(&format!("GET http://{}/", server.address))], plain_settings()).unwrap();
    let gate = egress.open(caller());
    let mut request = once(format!("http://{}/", server.address));
    request.options.timeout = Some(Duration::from_millis(20));
    assert_eq!(send(&gate, request).await.unwrap_err(), Error::Timeout);

    let mut caller = caller();
    caller.deadline = tokio::time::Instant::now() + Duration::from_millis(200);
    let gate = egress.open(caller);
    assert_eq!(send(&gate, get(format!("http://{}/", server.address))).await.unwrap_err(), Error::Timeout);
    // After the deadline nothing is sent at all.
    assert_eq!(send(&gate, get(format!("http://{}/", server.address))).await.unwrap_err(), Error::Timeout);
    assert_eq!(gate.records().iter().map(|record| record.attempts).collect::<Vec<_>>(), [1, 0]);
}

#[tokio::test]
async fn answers_come_in_the_order_of_the_requests() {
    let (tell, told) = tokio::sync::watch::channel(4_usize);
    let tell = Arc::new(tell);
    // Every request waits for the one after it.
    let server = Server::http(move |request| {
        let (tell, mut told) = (Arc::clone(&tell), told.clone());
        async move {
            let own: usize = request.uri().path().trim_start_matches('/').parse().unwrap();
            told.wait_for(|next| *next == own + 1).await.unwrap();
            tell.send(own).unwrap();
            http::Response::new(http_body_util::Full::new(Bytes::from(own.to_string())))
        }
    })
    .await;
    let gate = open(vec![rule(&format!("GET http://{}/", server.address))], plain_settings());
    let mut requests: Vec<_> = (0..4).map(|n| get(format!("http://{}/{n}", server.address))).collect();
    requests.insert(2, get("http://elsewhere.example/"));
    let answers = gate.send(requests).await;
    let shown: Vec<_> = answers.iter().map(|answer| answer.as_ref().map_or("denied", body)).collect();
    assert_eq!(shown, ["0", "1", "denied", "2", "3"]);
    let paths: Vec<_> = gate.records().into_iter().map(|record| record.path).collect();
    assert_eq!(paths, ["/0", "/1", "/", "/2", "/3"]);
}
