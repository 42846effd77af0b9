use std::collections::VecDeque;

use http::HeaderValue;

use super::super::Scheme;
use super::super::pace::{Ask, Call, Lane, Origin, Pace, Pass, Place, Way};
use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_str(value).unwrap())).collect()
}

/// Answers from a script, and keeps what was done with them. A host of its own, so its pace is its own.
struct Script {
    pace: Pace,
    ask: Ask,
    pass: Option<Pass>,
    answers: VecDeque<Result<(u16, HeaderMap), Failure>>,
    bodies: VecDeque<Result<(), Failure>>,
    sent_at: Vec<Instant>,
    discarded: Vec<u16>,
    retries: u32,
}

impl Script {
    fn new(answers: impl IntoIterator<Item = Result<(u16, HeaderMap), Failure>>) -> Self {
        let place = Place {
            namespace: "n".into(),
            class: "c".into(),
            lane: Lane::first(),
            call: Call::new(),
            since: Instant::now(),
            requests: 1,
        };
        let origin = Origin { scheme: Scheme::Https, host: "h".to_owned(), port: 443 };
        let (shown, deadline) = ("h".to_owned(), Instant::now());
        Self {
            pace: Pace::default(),
            ask: Ask { origin, shown, way: Way::PLAIN, place, deadline },
            pass: None,
            answers: answers.into_iter().collect(),
            bodies: VecDeque::new(),
            sent_at: Vec::new(),
            discarded: Vec::new(),
            retries: 20,
        }
    }

    fn statuses(statuses: &[u16]) -> Self {
        Self::new(statuses.iter().map(|status| Ok((*status, HeaderMap::new()))))
    }

    async fn run(&mut self, policy: &Policy, deadline: Duration) -> Result<u16, Error> {
        self.ask.deadline = Instant::now() + deadline;
        run(self, policy, self.ask.deadline).await.map(|response| response.status)
    }

    fn waits(&self) -> Vec<Duration> {
        self.sent_at.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }
}

impl Exchange for Script {
    type Head = (u16, HeaderMap);

    async fn enter(&mut self) -> Result<(), Error> {
        self.pass = Some(self.pace.enter(&self.ask).await?);
        Ok(())
    }

    fn may_enter_again(&self) -> bool {
        self.pace.would_let(&self.ask)
    }

    fn settle(&mut self, verdict: Verdict) {
        if let Some(pass) = self.pass.take() {
            pass.settle(&verdict);
        }
    }

    async fn send(&mut self) -> Result<Self::Head, Failure> {
        self.sent_at.push(Instant::now());
        self.answers.pop_front().expect("one attempt more than the script has")
    }

    fn status(head: &Self::Head) -> u16 {
        head.0
    }

    fn headers(head: &Self::Head) -> &HeaderMap {
        &head.1
    }

    async fn finish(&mut self, head: Self::Head) -> Result<Response, Failure> {
        self.bodies.pop_front().unwrap_or(Ok(()))?;
        Ok(Response { status: head.0, headers: Vec::new(), body: Vec::new() })
    }

    async fn discard(&mut self, head: Self::Head) {
        self.discarded.push(head.0);
    }

    fn take_retry(&mut self) -> bool {
        let left = self.retries.checked_sub(1);
        self.retries = left.unwrap_or(0);
        left.is_some()
    }
}

fn failure(error: Error, sent: bool, transient: bool) -> Failure {
    Failure { error, sent, transient }
}

fn refused() -> Failure {
    failure(Error::Connect("refused".to_owned()), false, true)
}

fn get() -> Policy {
    Policy::new(&Method::GET, &Options::default())
}

fn post() -> Policy {
    Policy::new(&Method::POST, &Options::default())
}

#[tokio::test(start_paused = true)]
async fn delays_double_and_vary_by_less_than_themselves() {
    for _ in 0..50 {
        let mut script = Script::statuses(&[503, 503, 503, 200]);
        assert_eq!(script.run(&get(), MINUTE).await, Ok(200));
        for (wait, base) in script.waits().into_iter().zip([800, 1600, 3200]) {
            // A millisecond for the resolution of the clock.
            let range = Duration::from_millis(base)..Duration::from_millis(2 * base + 2);
            assert!(range.contains(&wait), "{wait:?} is not in {range:?}");
        }
        assert_eq!(script.discarded, [503, 503, 503]);
    }
}

#[tokio::test(start_paused = true)]
async fn after_three_retries_the_last_response_is_the_answer() {
    let mut script = Script::statuses(&[500, 502, 504, 503]);
    assert_eq!(script.run(&get(), MINUTE).await, Ok(503));
    assert_eq!(script.discarded, [500, 502, 504]);
}

#[tokio::test(start_paused = true)]
async fn defaults_go_by_the_method() {
    for status in [408, 500, 502, 503, 504] {
        assert_eq!(Script::statuses(&[status, 200]).run(&get(), MINUTE).await, Ok(200));
        assert_eq!(Script::statuses(&[status]).run(&post(), MINUTE).await, Ok(status));
    }
    assert_eq!(Script::statuses(&[429, 200]).run(&get(), MINUTE).await, Ok(200));
    assert_eq!(Script::statuses(&[429, 200]).run(&post(), MINUTE).await, Ok(200));
    for status in [200, 301, 400, 401, 404, 410, 501] {
        assert_eq!(Script::statuses(&[status]).run(&get(), MINUTE).await, Ok(status));
    }
    let head = Policy::new(&Method::HEAD, &Options::default());
    assert_eq!(Script::statuses(&[503, 200]).run(&head, MINUTE).await, Ok(200));
}

#[tokio::test(start_paused = true)]
async fn options_widen_and_narrow() {
    let options = |statuses: Option<&[u16]>, idempotent| Options {
        retry_statuses: statuses.map(<[u16]>::to_vec),
        idempotent,
        timeout: None,
    };
    let wide = Policy::new(&Method::GET, &options(Some(&[404, 410]), None));
    assert_eq!(Script::statuses(&[404, 410, 503]).run(&wide, MINUTE).await, Ok(503));
    let never = Policy::new(&Method::GET, &options(Some(&[]), None));
    assert_eq!(Script::statuses(&[429]).run(&never, MINUTE).await, Ok(429));
    let safe_post = Policy::new(&Method::POST, &options(None, Some(true)));
    assert_eq!(Script::statuses(&[503, 200]).run(&safe_post, MINUTE).await, Ok(200));
    let risky_get = Policy::new(&Method::GET, &options(None, Some(false)));
    assert_eq!(Script::statuses(&[503]).run(&risky_get, MINUTE).await, Ok(503));
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_retried_when_nothing_can_be_done_twice() {
    let cut = || failure(Error::Protocol("cut".to_owned()), true, true);
    let ok = || Ok((200, HeaderMap::new()));
    assert_eq!(Script::new([Err(refused()), ok()]).run(&get(), MINUTE).await, Ok(200));
    assert_eq!(Script::new([Err(refused()), ok()]).run(&post(), MINUTE).await, Ok(200));
    assert_eq!(Script::new([Err(cut()), ok()]).run(&get(), MINUTE).await, Ok(200));
    assert_eq!(Script::new([Err(cut())]).run(&post(), MINUTE).await, Err(cut().error));
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_will_not_pass_is_not_retried() {
    let denied = failure(Error::Denied("address".to_owned()), false, false);
    assert_eq!(Script::new([Err(denied.clone())]).run(&get(), MINUTE).await, Err(denied.error));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_is_a_failure_like_others() {
    let cut = failure(Error::Protocol("cut".to_owned()), true, true);
    let mut script = Script::statuses(&[200, 200]);
    script.bodies.push_back(Err(cut));
    assert_eq!(script.run(&get(), MINUTE).await, Ok(200));
    assert_eq!(script.sent_at.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_server_decides_how_long_to_wait() {
    for (status, asked) in
        [(429, &[("retry-after", "7")][..]), (503, &[("retry-after-ms", "7000"), ("retry-after", "9")])]
    {
        let mut script = Script::new([Ok((status, headers(asked))), Ok((200, HeaderMap::new()))]);
        assert_eq!(script.run(&get(), MINUTE).await, Ok(200));
        // Up to a twentieth more, by chance.
        let wait = script.waits()[0].as_millis();
        assert!((7_000..7_352).contains(&wait), "{wait} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_too_long_ends_with_the_response() {
    for (asked, deadline) in [("10", 9), ("10", 10), ("18446744073709551615", 59)] {
        let mut script = Script::new([Ok((429, headers(&[("retry-after", asked)])))]);
        let result = script.run(&get(), Duration::from_secs(deadline)).await;
        assert_eq!(result, Ok(429), "{asked} within {deadline}");
    }
}

#[tokio::test(start_paused = true)]
async fn slow_down_is_obeyed_more_often_than_failures_are_retried_and_not_for_ever() {
    let statuses = |count| std::iter::repeat_n(429, count).chain([200]).collect::<Vec<_>>();
    assert_eq!(Script::statuses(&statuses(9)).run(&get(), 10 * MINUTE).await, Ok(200));
    let mut script = Script::statuses(&statuses(10));
    assert_eq!(script.run(&get(), 10 * MINUTE).await, Ok(429));
    assert_eq!(script.sent_at.len(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_delay_that_does_not_fit_into_the_deadline_is_not_waited_for() {
    let started = Instant::now();
    assert_eq!(Script::statuses(&[503]).run(&get(), Duration::from_millis(700)).await, Ok(503));
    assert_eq!(
        Script::new([Err(refused())]).run(&get(), Duration::from_millis(700)).await,
        Err(Error::Connect("refused".to_owned()))
    );
    assert_eq!(Instant::now(), started);
}

#[tokio::test(start_paused = true)]
async fn without_budget_for_a_retry_the_response_is_the_answer() {
    let mut script = Script::statuses(&[503, 503]);
    script.retries = 1;
    assert_eq!(script.run(&get(), MINUTE).await, Ok(503));
    assert_eq!(script.discarded, [503]);
}

#[test]
fn retry_after_is_read_in_all_its_forms() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777); // Sun, 06 Nov 1994 08:49:37 GMT
    type Pairs = &'static [(&'static str, &'static str)];
    let cases: &[(Pairs, Option<u64>)] = &[
        (&[], None),
        (&[("retry-after", "3")], Some(3000)),
        (&[("retry-after", " 3 ")], Some(3000)),
        (&[("retry-after", "0")], Some(0)),
        (&[("retry-after", "-1")], None),
        (&[("retry-after", "1.5")], None),
        (&[("retry-after", "soon")], None),
        (&[("retry-after", "18446744073709551616")], None),
        (&[("retry-after", "Sun, 06 Nov 1994 08:49:42 GMT")], Some(5000)),
        (&[("retry-after", "Sunday, 06-Nov-94 08:49:42 GMT")], Some(5000)),
        (&[("retry-after", "Sun Nov  6 08:49:42 1994")], Some(5000)),
        (&[("retry-after", "Sun, 06 Nov 1994 08:49:30 GMT")], Some(0)),
        (&[("retry-after-ms", "250")], Some(250)),
        (&[("x-ms-retry-after-ms", "250")], Some(250)),
        (&[("x-ms-retry-after-ms", "250"), ("retry-after", "9")], Some(250)),
        (&[("retry-after-ms", "x"), ("retry-after", "9")], Some(9000)),
    ];
    for (pairs, milliseconds) in cases {
        assert_eq!(retry_after(&headers(pairs), now), milliseconds.map(Duration::from_millis), "{pairs:?}");
    }
}

#[test]
fn a_budget_ends_at_its_limit_and_is_not_used_by_what_does_not_fit() {
    let limits = EgressLimits { requests: 2, bytes_out: 10, bytes_in: 10, ..EgressLimits::default() };
    let budget = Budget::new(&limits);
    assert!(budget.take_request() && budget.take_request() && !budget.take_request());
    assert!(budget.take_bytes_out(6) && !budget.take_bytes_out(5) && budget.take_bytes_out(4));
    assert!(budget.take_bytes_in(6) && !budget.take_bytes_in(5) && !budget.take_bytes_in(1));
}
