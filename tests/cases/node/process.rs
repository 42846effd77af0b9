//! `coffer node` as a process: its end, its log, its ports.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::time::sleep;

use super::patience::{INTERVAL, PATIENCE, eventually};

/// A process that runs, or has ended. Dropping it kills it.
pub struct Process {
    id: u32,
    child: Mutex<Child>,
    log: Arc<Log>,
    reader: Mutex<Option<JoinHandle<()>>>,
}

/// What the process has written to stderr so far, a JSON object per line.
#[derive(Default)]
pub struct Log(Mutex<Vec<Line>>);

/// One line.
#[derive(Clone, Debug)]
pub struct Line {
    pub text: String,
    /// Null for a line that is no JSON, such as the last words of a panic.
    pub json: Value,
}

impl Line {
    /// A field, as text.
    pub fn field(&self, name: &str) -> &str {
        self.json[name].as_str().unwrap_or_default()
    }

    pub fn message(&self) -> &str {
        self.field("message")
    }

    /// Where the process listens, if the line says so in either form.
    fn address(&self) -> Option<SocketAddr> {
        let (_, after) = self.text.split_once("\"listening\"")?;
        let (_, after) = after.split_once("127.0.0.1:")?;
        let port = after.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()?;
        Some((Ipv4Addr::LOCALHOST, port).into())
    }
}

impl Log {
    pub fn lines(&self) -> Vec<Line> {
        self.0.lock().unwrap().clone()
    }

    /// Everything, to be searched.
    pub fn text(&self) -> String {
        self.0.lock().unwrap().iter().map(|line| format!("{}\n", line.text)).collect()
    }

    /// Waits for a line.
    pub async fn wait(&self, what: &str, is_it: impl Fn(&Line) -> bool) -> Line {
        eventually(what, || self.0.lock().unwrap().iter().find(|line| is_it(line)).cloned()).await
    }

    fn add(&self, text: String) {
        let json = serde_json::from_str(&text).unwrap_or_default();
        self.0.lock().unwrap().push(Line { text, json });
    }
}

impl Process {
    /// Starts it; `log` is added to.
    pub fn start(command: &mut Command, log: Arc<Log>) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let (stderr, kept) = (child.stderr.take().unwrap(), log.clone());
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                kept.add(String::from_utf8_lossy(&line).into_owned());
            }
        });
        Self { id: child.id(), child: Mutex::new(child), log, reader: Mutex::new(Some(reader)) }
    }

    pub fn id(&self) -> u32 {
        self.id
    }

    /// Whether it has ended, and how.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.child.lock().unwrap().try_wait().unwrap()
    }

    /// Waits for its end.
    pub async fn end(&self) -> ExitStatus {
        let status = eventually("the driver to end", || self.ended()).await;
        // What it wrote last is still on its way.
        self.reader.lock().unwrap().take().map(JoinHandle::join);
        status
    }

    /// Waits for as long as it lives.
    pub async fn outlived(&self) -> ExitStatus {
        loop {
            match self.ended() {
                Some(_) => return self.end().await,
                None => sleep(INTERVAL).await,
            }
        }
    }

    /// Asks it to end, as kubelet does with a container.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends it where it stands.
    pub async fn kill(&self) {
        self.signal(Signal::KILL);
        let status = self.end().await;
        assert_eq!(status.signal(), Some(9), "it ended before it was killed:\n{}", self.log.text());
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.id.try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Every thread's `/proc/<pid>/task/<tid>/status`.
    pub fn statuses(&self) -> Vec<String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.id())).unwrap();
        // A thread may end between the two reads.
        tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("status")).ok()).collect()
    }

    /// Its children that have this word on their command line: one that still is what its parent is has not.
    pub fn children(&self, word: &str) -> Vec<Pid> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.id())).unwrap();
        let children = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("children")).ok());
        let ids = children.flat_map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        let has_word =
            |id: &String| std::fs::read(format!("/proc/{id}/cmdline")).is_ok_and(|line| contains(&line, word));
        ids.filter(has_word).filter_map(|id| Pid::from_raw(id.parse().unwrap())).collect()
    }

    /// The answer to a GET of one of its ports, `/metrics` or `/readyz` or `/healthz`; none while there is none.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        let lines = self.log.lines();
        // A process before this one has written into the same log.
        let mut addresses = lines.iter().rev().filter_map(Line::address);
        addresses.find_map(|address| get(address, path).filter(|(status, _)| *status != 404))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap();
        // It may have ended.
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn contains(command_line: &[u8], word: &str) -> bool {
    command_line.split(|byte| *byte == 0).any(|found| found == word.as_bytes())
}

fn get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}
