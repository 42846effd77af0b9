//! The program and the component under test, and a cache in which the component is compiled already.

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
    /// A cache that holds the component.
    pub cache: PathBuf,
}

/// What a run left behind.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A class that `coffer check` accepts.
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
                cache: target.join("test-cache"),
            };
            for needed in [&program.coffer, &program.component] {
                assert!(needed.exists(), "{} is missing: run `make test`", needed.display());
            }
            program.compile();
            program
        })
    }

    /// A configuration's part that every test shares: which component, and time to compile it without optimisation.
    pub fn plugin(&self) -> String {
        format!("plugin: {{file: {}}}", self.component.display())
    }

    fn compile(&self) {
        if !self.cache.exists() {
            fs::DirBuilder::new().mode(0o700).create(&self.cache).unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("class.yaml"), GOOD).unwrap();
        let (cache, plugin) = (self.cache.display(), self.plugin());
        let config = format!("cache: {cache}\nproviders: {{azure: {{{plugin}, limits: {{compileTime: 300s}}}}}}\n");
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

impl Run {
    /// What was printed as JSON, on stdout after success and on stderr after a failure.
    pub fn json(&self) -> serde_json::Value {
        let text = if self.code == Some(0) { &self.stdout } else { &self.stderr };
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}
