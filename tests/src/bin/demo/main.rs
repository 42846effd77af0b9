//! `make demo`: the whole of Coffer on one machine, in front of emulators of Entra ID and Key Vault.
//!
//! It follows the walk-through for Arc-enabled Kubernetes: the class and the Secret are those of that page, with the
//! placeholders filled in. Every step is a command of the real program, shown before it runs; nothing is staged but the
//! network, and in the last step kubelet and the API server. Folders are below `target/demo`, made anew by each run.

mod node;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs, io};

use anyhow::{Context, Result, ensure};
use coffer_tests::harness::{Emulator, Settings};

const VAULT: &str = "contoso-demo";
const TENANT: &str = "72f1c1a0-3d0e-4b2f-9c55-1d2f0c9be001";
const CLIENT_ID: &str = "5c1b6f0e-88a4-4f0b-a9a1-3f6f7d1f4b02";
const CLIENT_SECRET: &str = "demo~client~secret~of~nobody";

/// The attacks of `hostile.yaml`, with the exit code that each must end with.
const ATTACKS: [(&str, &str, i32); 5] = [
    ("send-the-secret-elsewhere", "It sends requests to hosts that no rule names.", 0),
    ("ask-the-metadata-service", "It asks addresses instead of names, the metadata service among them.", 0),
    ("write-outside-the-volume", "It hands back a file whose path leads out of the volume.", 70),
    ("never-end", "It computes and never ends.", 70),
    ("take-all-memory", "It takes all the memory it can get.", 70),
];

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: the demo ended: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let demo = Demo::prepare()?;
    let emulator = Emulator::start(Settings::default()).await?;
    let tenant = emulator.tenant(TENANT);
    tenant.app(CLIENT_ID).secret(CLIENT_SECRET);
    let vault = tenant.vault(VAULT);
    vault.allow_all(CLIENT_ID).secret("DemoSecret").set("MyExampleSecret");
    demo.write_inputs(&emulator)?;

    title("1  A vault with a secret")?;
    say(&format!(
        "An emulator of Entra ID and Key Vault listens on {}.\n\
         It has a tenant, a service principal, and the vault {VAULT} with the secret DemoSecret.",
        emulator.address()
    ))?;

    title("2  Is the class right? No vault is needed to know")?;
    demo.coffer(&["check", "secretproviderclass.yaml"], 0).await?;

    title("3  Mount it: the provider runs as a sandboxed WebAssembly component")?;
    demo.mount().await?;
    demo.show_volume("MyExampleSecret")?;

    title("4  The secret changes in the vault; mount again")?;
    vault.secret("DemoSecret").set("MyRotatedSecret");
    demo.mount().await?;
    demo.show_volume("MyRotatedSecret")?;

    title("5  Nothing changed: nothing is written")?;
    demo.mount().await?;

    title("6  A provider that somebody tampered with")?;
    say(
        "It has the same grant for the vault. Each class makes it try something else; what it learned from its requests\n\
         is in the file `answers`: refusals.",
    )?;
    for (class, what, code) in ATTACKS {
        say(&format!("\n{what}"))?;
        demo.coffer(&["mount", "--class", class, "hostile.yaml", "hostile"], code).await?;
    }
    ensure!(!demo.folder.join("etc").exists(), "a file was written outside the volume");

    title("7  The same as the CSI driver of a node")?;
    node::show(&demo, &emulator, &vault).await?;

    title("That was Coffer")?;
    say(&format!("Configuration, manifests and volumes are in {}.", demo.shown.display()))
}

/// Where the demo plays.
struct Demo {
    folder: PathBuf,
    /// The folder as a reader of the output knows it.
    shown: PathBuf,
    components: PathBuf,
    coffer: PathBuf,
}

impl Demo {
    fn prepare() -> Result<Self> {
        let programs = env::current_exe()?.parent().map(Path::to_owned).context("the demo has no folder")?;
        let coffer = programs.join("coffer");
        ensure!(coffer.exists(), "{} is not there; run `make demo`, which builds it", coffer.display());
        let target = programs.parent().map(Path::to_owned).context("the demo is not in a target folder")?;
        let components = target.join("components");
        for name in ["azure-key-vault.wasm", "guest-modes.wasm"] {
            let component = components.join(name);
            ensure!(component.exists(), "{} is not there; run `make demo`, which builds it", component.display());
        }
        let folder = target.join("demo");
        for part in ["secrets-store", "hostile"] {
            match fs::remove_dir_all(folder.join(part)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        fs::create_dir_all(&folder)?;
        Ok(Self { folder, shown: Path::new("target").join("demo"), components, coffer })
    }

    fn write_inputs(&self, emulator: &Emulator) -> Result<()> {
        let fill = |text: &str| {
            text.replace("<key-vault-name>", VAULT)
                .replace("<tenant-Id>", TENANT)
                .replace("<client-id>", CLIENT_ID)
                .replace("<client-secret>", CLIENT_SECRET)
                .replace("<components>", &self.components.display().to_string())
                .replace("<emulator>", &emulator.address().to_string())
        };
        for (name, text) in [
            ("secretproviderclass.yaml", include_str!("../../../demo/secretproviderclass.yaml")),
            ("secrets-store-creds.yaml", include_str!("../../../demo/secrets-store-creds.yaml")),
            ("hostile.yaml", include_str!("../../../demo/hostile.yaml")),
            ("config.yaml", include_str!("../../../demo/config.yaml")),
        ] {
            fs::write(self.folder.join(name), fill(text))?;
        }
        fs::write(self.folder.join("emulator-ca.pem"), emulator.ca_pem())?;
        Ok(())
    }

    async fn mount(&self) -> Result<()> {
        self.coffer(&["mount", "secretproviderclass.yaml", "secrets-store-creds.yaml", "secrets-store"], 0).await
    }

    /// Runs the program in the demo's folder, its output on ours, and insists on the exit code.
    async fn coffer(&self, arguments: &[&str], expected: i32) -> Result<()> {
        say(&format!("\n$ coffer {} --config config.yaml", arguments.join(" ")))?;
        let mut command = Command::new(&self.coffer);
        command.args(arguments).args(["--config", "config.yaml"]).current_dir(&self.folder);
        let status = tokio::task::spawn_blocking(move || command.status()).await??;
        ensure!(status.code() == Some(expected), "`coffer` ended with {status}, not with {expected}");
        Ok(())
    }

    /// Prints the volume as `ls` and `cat` in the pod would show it.
    fn show_volume(&self, expected: &str) -> Result<()> {
        let volume = self.folder.join("secrets-store");
        say("\n$ tree secrets-store")?;
        say(&tree(&volume, "")?)?;
        let value = fs::read_to_string(volume.join("DemoSecret"))?;
        say(&format!("$ cat secrets-store/DemoSecret\n{value}"))?;
        ensure!(value == expected, "the file holds something else than the vault");
        Ok(())
    }
}

/// The entries of a folder, one a line, links with what they point to.
fn tree(folder: &Path, indent: &str) -> Result<String> {
    let mut entries: Vec<_> = fs::read_dir(folder)?.collect::<io::Result<_>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    let mut text = String::new();
    for entry in entries {
        let (name, kind) = (entry.file_name(), entry.file_type()?);
        let name = name.to_string_lossy();
        if kind.is_symlink() {
            text += &format!("{indent}{name} -> {}\n", fs::read_link(entry.path())?.display());
        } else if kind.is_dir() {
            text += &format!("{indent}{name}/\n{}", tree(&entry.path(), &format!("{indent}    "))?);
        } else {
            text += &format!("{indent}{name}\n");
        }
    }
    Ok(text)
}

fn title(text: &str) -> Result<()> {
    say(&format!("\n\n━━ {text} ━━"))
}

fn say(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}
