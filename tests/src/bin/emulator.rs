//! The emulator as a program, for clients that are not Rust tests.
//!
//! Prints one line of JSON on standard output when it listens, one line per request on standard error (no secret, no
//! token, no query value), and ends on SIGINT, SIGTERM or, if so told, when its standard input is closed.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use coffer_tests::harness::state::State;
use coffer_tests::harness::{Emulator, Entry, Settings};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, oneshot};

/// Microsoft Entra and Azure Key Vault on one port of 127.0.0.1.
#[derive(Parser)]
#[command(name = "coffer-emulator")]
struct Args {
    /// TCP port on 127.0.0.1; 0 picks a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// JSON file that describes tenants, applications and vaults.
    #[arg(long)]
    state: Option<PathBuf>,
    /// How long each vault request takes at least, such as 20ms.
    #[arg(long, value_parser = duration, default_value = "0s")]
    latency: Duration,
    /// Where to write the certificate that clients must trust, PEM.
    #[arg(long)]
    ca_out: Option<PathBuf>,
    /// End when standard input is closed.
    #[arg(long)]
    until_stdin_closes: bool,
}

fn duration(text: &str) -> Result<Duration, jiff::Error> {
    Duration::try_from(text.parse::<jiff::SignedDuration>()?)
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to tell if standard error is gone too.
            let _ = writeln!(io::stderr(), "coffer-emulator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> anyhow::Result<()> {
    // Before anybody is told that it runs, so that no signal is missed.
    let mut interrupted = signal(SignalKind::interrupt()).context("SIGINT cannot be awaited")?;
    let mut terminated = signal(SignalKind::terminate()).context("SIGTERM cannot be awaited")?;
    let emulator = Emulator::start(Settings { port: args.port, ..Settings::default() }).await?;
    if let Some(path) = &args.state {
        State::read(path)?.apply(&emulator)?;
    }
    emulator.latency(args.latency);
    if let Some(path) = &args.ca_out {
        std::fs::write(path, emulator.ca_pem())
            .with_context(|| format!("certificate could not be written to {}", path.display()))?;
    }
    let mut requests = emulator.log().subscribe();
    announce(&emulator, &args).context("standard output is closed")?;
    tokio::select! {
        _ = interrupted.recv() => {}
        _ = terminated.recv() => {}
        () = stdin_closes(), if args.until_stdin_closes => {}
        result = narrate(&mut requests) => result.context("standard error is closed")?,
    }
    // The log ends with the emulator: what is left in the queue is told, then nothing more comes.
    emulator.stop().await;
    narrate(&mut requests).await.context("standard error is closed")
}

fn announce(emulator: &Emulator, args: &Args) -> io::Result<()> {
    let ready = json!({
        "address": emulator.address().to_string(),
        "ca": args.ca_out.as_ref().map(|path| path.display().to_string()),
        "hosts": emulator.hosts(),
    });
    let mut out = io::stdout();
    writeln!(out, "{ready}")?;
    out.flush()
}

/// Tells of each request until there is no emulator left.
async fn narrate(requests: &mut broadcast::Receiver<Entry>) -> io::Result<()> {
    loop {
        let line = match requests.recv().await {
            Ok(entry) => serde_json::to_string(&entry)?,
            Err(RecvError::Lagged(count)) => json!({"skipped": count}).to_string(),
            Err(RecvError::Closed) => return Ok(()),
        };
        writeln!(io::stderr(), "{line}")?;
    }
}

/// A thread of its own: a read of standard input cannot be cancelled, and the runtime would wait for one of its own.
async fn stdin_closes() {
    let (closed, told) = oneshot::channel();
    std::thread::spawn(move || {
        let mut ignored = [0; 1024];
        let mut input = io::stdin().lock();
        while input.read(&mut ignored).is_ok_and(|count| count > 0) {}
        // Nobody listens any more if something else ended the program.
        let _ = closed.send(());
    });
    // An error would mean that the thread is gone, and then so is standard input.
    let _ = told.await;
}
