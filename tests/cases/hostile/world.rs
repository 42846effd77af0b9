//! What a guest that asks has around it: rules, a store on 127.0.0.1 that notes every byte it is sent, and a resolver
//! that answers what the test tells it.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use coffer_sandbox::egress::resolver::{ResolveError, Resolving};
use coffer_sandbox::egress::{Caller, Egress, Gate, Lane, ProxySettings, Record, Resolver, RuleSettings, Settings};
use coffer_sandbox::error::Error;
use coffer_sandbox::limits::Limits;
use coffer_sandbox::provider::Outcome;
use coffer_sandbox::redact::Redactor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::sandbox::{Bench, contents, request};

/// A bench with a way out.
pub struct World {
    pub bench: Bench,
    pub store: Store,
    pub names: Arc<Names>,
    egress: Arc<Egress>,
}

/// What a call left behind.
pub struct Asked {
    pub result: Result<Outcome, Error>,
    pub records: Vec<Record>,
    pub unrecorded: u64,
}

impl Asked {
    /// What the guest got as answers, a line each.
    pub fn answers(&self) -> Vec<&str> {
        contents(self.result.as_ref().unwrap()).lines().collect()
    }
}

impl World {
    /// One rule, whose connections go to the store whatever its name resolves to.
    pub async fn connected(rule: &str) -> Self {
        Self::new(rule, true, &[]).await
    }

    /// One rule, whose connections go where the resolver says. In the rule and in URLs, `PORT` is the store's.
    pub async fn resolved(rule: &str, answers: &[&str]) -> Self {
        Self::new(rule, false, answers).await
    }

    async fn new(rule: &str, connect: bool, answers: &[&str]) -> Self {
        let store = Store::start().await;
        let mut rule = RuleSettings::from(store.with_port(rule).parse::<coffer_sandbox::egress::Rule>().unwrap());
        rule.connect = connect.then(|| store.address.to_string().parse().unwrap());
        let names = Arc::new(Names {
            answers: answers.iter().map(|address| address.parse().unwrap()).collect(),
            asked: Mutex::default(),
        });
        let settings =
            Settings { ca: Vec::new(), proxy: ProxySettings::None, resolver: names.clone(), ..Settings::default() };
        let egress = Egress::new(vec![rule], settings).unwrap();
        Self { bench: Bench::new("guest-modes", Limits::default()).await, store, names, egress }
    }

    /// Calls `mount` in this mode.
    pub async fn ask(&self, mode: &str, more: &[(&str, &str)]) -> Asked {
        let more: Vec<_> = more.iter().map(|(key, value)| (*key, self.store.with_port(value))).collect();
        let more: Vec<_> = more.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let request = request(mode, &more);
        let redactor = Redactor::default();
        let gate = Arc::new(self.gate(&request, redactor.clone()));
        let result = self.bench.send_with(&request, gate.clone(), redactor).await.result;
        Asked { result, records: gate.records(), unrecorded: gate.unrecorded() }
    }

    fn gate(&self, request: &coffer_sandbox::provider::Request, redactor: Redactor) -> Gate {
        self.egress.open(Caller {
            plugin: "guest".into(),
            digest: self.bench.ready.digest().to_string().into(),
            pod: request.pod.clone(),
            parameters: Arc::new(request.parameters.clone()),
            class: "class".into(),
            lane: Lane::first(),
            node_identity: true,
            limits: self.bench.ready.limits().egress.clone(),
            deadline: self.bench.deadline(),
            redactor,
        })
    }
}

/// A resolver with the same answer to every question, or none.
pub struct Names {
    answers: Vec<IpAddr>,
    asked: Mutex<Vec<String>>,
}

impl Names {
    /// The names that somebody wanted to know.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Resolver for Names {
    fn resolve<'a>(&'a self, host: &'a str) -> Resolving<'a> {
        self.asked.lock().unwrap().push(host.to_owned());
        let none = || Err(ResolveError::new("there is no such name"));
        let answer = if self.answers.is_empty() { none() } else { Ok(self.answers.clone()) };
        Box::pin(std::future::ready(answer))
    }
}

/// A store that answers `hello`, and below `/secrets/redirect` with a redirect to a forbidden host.
pub struct Store {
    pub address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Store {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let store = Self { address: listener.local_addr().unwrap(), heads: Arc::default() };
        let heads = store.heads.clone();
        // Ends with the runtime of the test.
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, heads.clone()));
            }
        });
        store
    }

    /// The heads of all requests, as they came.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    fn with_port(&self, text: &str) -> String {
        text.replace("PORT", &self.address.port().to_string())
    }
}

async fn serve(mut stream: TcpStream, heads: Arc<Mutex<Vec<String>>>) -> std::io::Result<()> {
    let mut read = Vec::new();
    while stream.read_buf(&mut read).await? > 0 {
        while let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = read.split_off(end + 4);
            let head = String::from_utf8(std::mem::replace(&mut read, rest)).unwrap();
            stream.write_all(answer(&head).as_bytes()).await?;
            heads.lock().unwrap().push(head);
        }
    }
    Ok(())
}

fn answer(head: &str) -> &'static str {
    if head.starts_with("GET /secrets/redirect ") {
        return "HTTP/1.1 302 Found\r\nlocation: http://evil.example.test/secrets\r\ncontent-length: 0\r\n\r\n";
    }
    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
}
