//! The peak resident memory of one `coffer mount`, as the kernel counts it for a process that ended.
//!
//! The kernel keeps the largest child only, so each measurement has a process of its own between: this program,
//! started again with [`CHILD`].

use std::ffi::OsString;
use std::io::Write as _;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};

use crate::network::{CLIENT_ID, CLIENT_SECRET, TENANT, VAULT, emulator};
use crate::table::Table;
use crate::{Built, sandbox};

/// The argument that makes this program run a command and print its peak memory in KiB.
pub(crate) const CHILD: &str = "peak-memory-of";

const RUNS: usize = 5;

pub(crate) fn child(command: &[OsString]) -> Result<()> {
    let (program, arguments) = command.split_first().context("no command")?;
    let output = Command::new(program).args(arguments).output()?;
    ensure!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    let peak = getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss();
    Ok(writeln!(std::io::stdout(), "{peak}")?)
}

pub(crate) async fn measure(built: &Built) -> Result<Table> {
    let emulator = emulator().await?;
    let folder = built.scratch.path();
    std::fs::write(folder.join("ca.pem"), emulator.ca_pem())?;
    std::fs::write(folder.join("config.yaml"), config(built, "cache", &emulator.address().to_string()))?;
    std::fs::write(folder.join("secret.yaml"), secret())?;

    let mut table = Table::new("Peak resident memory", ["", "median", "largest"]);
    table.row(row("a process that does nothing: `coffer --version`", &peaks(built, &["--version"]).await?));
    for objects in [1, 20] {
        std::fs::write(folder.join("class.yaml"), class(objects))?;
        let target = format!("volume-{objects}");
        let arguments = ["mount", "class.yaml", "secret.yaml", &target, "--config", "config.yaml"];
        peaks(built, &arguments).await?; // The first one compiles the plugin.
        table.row(row(&format!("`coffer mount` of {objects}"), &peaks(built, &arguments).await?));
    }
    emulator.stop().await;
    Ok(table)
}

fn row(name: &str, peaks: &[i64]) -> [String; 3] {
    let show = |kibibytes: Option<&i64>| format!("{:.1} MiB", kibibytes.copied().unwrap_or_default() as f64 / 1024.0);
    [name.into(), show(peaks.get(peaks.len() / 2)), show(peaks.last())]
}

/// Sorted peaks of several runs, in KiB.
async fn peaks(built: &Built, arguments: &[&str]) -> Result<Vec<i64>> {
    let mut peaks = Vec::new();
    for _ in 0..RUNS {
        let mut command = Command::new(&built.bench);
        command.arg(CHILD).arg(&built.coffer).args(arguments).current_dir(built.scratch.path());
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        peaks.push(String::from_utf8(output.stdout)?.trim().parse()?);
    }
    peaks.sort_unstable();
    Ok(peaks)
}

/// A configuration with the grant for the emulator.
pub(crate) fn config(built: &Built, cache: &str, address: &str) -> String {
    let component = built.component.display();
    format!(
        "cache: {cache}\nproviders:\n  azure:\n    plugin: {{file: '{component}'}}\n    egress:\n\
         \x20     - {{rule: 'GET https://{{keyvaultName}}.vault.azure.net/', connect: '{address}', ca: [ca.pem]}}\n\
         \x20     - {{rule: 'POST https://login.microsoftonline.com/{{tenantID|tenantId}}/oauth2/v2.0/token', \
         connect: '{address}', ca: [ca.pem]}}\n"
    )
}

fn secret() -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: credentials}}\n\
         stringData: {{clientid: '{CLIENT_ID}', clientsecret: '{CLIENT_SECRET}'}}\n"
    )
}

fn class(objects: usize) -> String {
    let parameters = sandbox::parameters(VAULT, TENANT, objects);
    let class = serde_json::json!({
        "apiVersion": "secrets-store.csi.x-k8s.io/v1", "kind": "SecretProviderClass", "metadata": {"name": "bench"},
        "spec": {"provider": "azure", "parameters": parameters},
    });
    class.to_string()
}
