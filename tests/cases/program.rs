//! The program and the components under test, and a cache in which the components are compiled already.
//!
//! Everything that a test here runs as a program comes from this file.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

/// Longer than any run takes on a machine that does much else; compiling without optimisation takes longest.
const PATIENCE: Duration = Duration::from_secs(300);

/// What every test uses.
pub struct Program {
    /// `coffer`.
    pub coffer: PathBuf,
    /// The Azure provider.
    pub component: PathBuf,
    /// The provider of many modes (`tests/guests/modes`).
    pub guest: PathBuf,
    /// A cache that holds the Azure provider, and the guest for who asked for it.
    pub cache: PathBuf,
}

/// What a run left behind.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A class of the Azure provider that `coffer check` accepts.
const GOOD: &str = "\
apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata:
  name: good
spec:
  provider: azure
  parameters:
    keyvaultName: vault
    tenantID: tenant.example
    objects: |
      array:
        - |
          objectName: name
          objectType: secret
";

/// A class of the guest that `coffer check` accepts.
const WELL_BEHAVED: &str = "\
apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata:
  name: good
spec:
  provider: guest
  parameters:
    mode: behaves
";

impl Program {
    /// Finds everything; the first call compiles the component, the others wait for it.
    pub fn find() -> &'static Self {
        static FOUND: OnceLock<Program> = OnceLock::new();
        FOUND.get_or_init(|| {
            let test = std::env::current_exe().unwrap();
            let programs = test.parent().and_then(Path::parent).unwrap();
            let target = programs.parent().unwrap();
            let program = Self {
                coffer: programs.join("coffer"),
                component: target.join("components/azure-key-vault.wasm"),
                guest: target.join("components/guest-modes.wasm"),
                cache: target.join("test-cache"),
            };
            for needed in [&program.coffer, &program.component, &program.guest] {
                assert!(needed.exists(), "{} is missing: run `make test`", needed.display());
            }
            program.compile(GOOD, &format!("azure: {{{}", program.plugin()));
            program
        })
    }

    /// As [`Program::find`], with the guest compiled too.
    pub fn with_guest() -> &'static Self {
        static COMPILED: OnceLock<()> = OnceLock::new();
        let program = Self::find();
        COMPILED.get_or_init(|| {
            program.compile(WELL_BEHAVED, &format!("guest: {{{}", plugin(&program.guest)));
        });
        program
    }

    /// The configuration's words for the Azure provider.
    pub fn plugin(&self) -> String {
        plugin(&self.component)
    }

    /// `provider` is the beginning of a provider's configuration. Compiling without optimisation takes its time.
    fn compile(&self, class: &str, provider: &str) {
        if !self.cache.exists() {
            fs::DirBuilder::new().mode(0o700).create(&self.cache).unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("class.yaml"), class).unwrap();
        let cache = self.cache.display();
        let config = format!("cache: {cache}\nproviders: {{{provider}, limits: {{compileTime: 300s}}}}}}\n");
        fs::write(folder.path().join("config.yaml"), config).unwrap();
        let output = std::process::Command::new(&self.coffer)
            .args(["check", "class.yaml", "--config", "config.yaml"])
            .current_dir(folder.path())
            .env_clear()
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Runs `coffer` in a folder, with nothing of this process's environment.
    pub async fn run(&self, folder: &Path, arguments: &[impl AsRef<OsStr>], environment: &[(&str, &str)]) -> Run {
        let child = Command::new(&self.coffer)
            .args(arguments)
            .current_dir(folder)
            .env_clear()
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let output = timeout(PATIENCE, child.wait_with_output()).await.expect("coffer does not end").unwrap();
        Run {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// The configuration's words for a component.
pub fn plugin(component: &Path) -> String {
    format!("plugin: {{file: {}}}", component.display())
}

impl Run {
    /// What was printed as JSON, on stdout after success and on stderr after a failure.
    pub fn json(&self) -> serde_json::Value {
        let text = if self.code == Some(0) { &self.stdout } else { &self.stderr };
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}
