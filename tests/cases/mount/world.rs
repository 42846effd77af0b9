//! One emulator and one folder with class, Secret and configuration, and what every run in it must keep to.

use std::fs;
use std::path::{Path, PathBuf};

use coffer_tests::harness::{Cloud, Emulator, Settings, vault::Vault};

use crate::program::{Program, Run};
use crate::tree::Tree;

pub const VAULT: &str = "contoso-kv";
pub const HOST: &str = "contoso-kv.vault.azure.net";
pub const LOGIN: &str = "login.microsoftonline.com";
pub const TENANT: &str = "72f1c1a0-3d0e-4b2f-9c55-1d2f0c9be001";
pub const CLIENT_ID: &str = "5c1b6f0e-88a4-4f0b-a9a1-3f6f7d1f4b02";

/// Every secret of these tests has this in it, so one search finds any of them, and any part of a JSON web token that
/// could be used begins with the second.
const CANARIES: [&str; 4] = ["canary", "eyJ", "MyExampleSecret", "MyRotatedSecret"];
pub const CLIENT_SECRET: &str = "canary~client~secret";

/// The class of the Arc walk-through, as it is there.
const CLASS: &str = include_str!("../../demo/secretproviderclass.yaml");

/// The Secret that the walk-through makes with `kubectl`.
const SECRET: &str = "\
apiVersion: v1
kind: Secret
metadata:
  name: secrets-store-creds
  labels:
    secrets-store.csi.k8s.io/used: \"true\"
stringData:
  clientid: <client-id>
  clientsecret: <client-secret>
";

/// The shortest part of a message that counts as a repetition when it comes twice.
const SENTENCE: usize = 16;

pub struct World {
    pub emulator: Emulator,
    pub vault: Vault,
    pub program: &'static Program,
    folder: tempfile::TempDir,
}

impl World {
    /// The vault of the walk-through with its secret, and nothing mounted.
    pub async fn new() -> Self {
        Self::with(Settings::default()).await
    }

    /// As [`World::new`], with HTTP/1.1 alone: only there a body can lie about its length.
    pub async fn of_http1() -> Self {
        Self::with(Settings { http2: false, ..Settings::default() }).await
    }

    /// As [`World::new`], with other settings of the emulator.
    pub async fn with(settings: Settings) -> Self {
        let program = Program::find();
        let emulator = Emulator::start(settings).await.unwrap();
        let vault = furnish(&emulator, &Cloud::public(), TENANT);
        let folder = tempfile::tempdir().unwrap();
        let world = Self { emulator, vault, program, folder };
        world.write("ca.pem", &world.emulator.ca_pem());
        world.class(&class());
        world.secret(SECRET);
        world.config(&world.grant());
        world
    }

    /// The same, after the first mount: `target` exists.
    pub async fn mounted() -> Self {
        let world = Self::new().await;
        world.mount(&[]).await;
        world.emulator.log().clear();
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    pub fn class(&self, text: &str) {
        self.write("class.yaml", text);
    }

    pub fn secret(&self, text: &str) {
        let text = text.replace("<client-id>", CLIENT_ID).replace("<client-secret>", CLIENT_SECRET);
        self.write("secret.yaml", &text);
    }

    pub fn config(&self, text: &str) {
        self.write("config.yaml", text);
    }

    /// A configuration with the shipped rules of one cloud, all dialled at the emulator.
    pub fn grant_for(&self, cloud: &Cloud) -> String {
        let emulator = self.emulator.address();
        let (cache, plugin) = (self.program.cache.display(), self.program.plugin());
        let (login, suffix) = (&cloud.login_host, &cloud.vault_suffix);
        format!(
            "\
cache: {cache}
egress: {{proxy: none}}
providers:
  azure:
    {plugin}
    limits: {{compileTime: 300s}}
    egress:
      - {{rule: 'GET https://{{keyvaultName}}.{suffix}/', connect: '{emulator}', ca: [ca.pem]}}
      - {{rule: 'POST https://{login}/{{tenantID|tenantId}}/oauth2/v2.0/token', connect: '{emulator}', ca: [ca.pem]}}
"
        )
    }

    pub fn grant(&self) -> String {
        self.grant_for(&Cloud::public())
    }

    /// Lets a call send so many requests: with as many as it needs there is no retry, and no wait for one.
    pub fn limit_requests(&self, requests: u32) {
        self.config(&self.grant().replace("{compileTime", &format!("{{requests: {requests}, compileTime")));
    }

    /// Mounts into `target`, which must work.
    pub async fn mount(&self, more: &[&str]) -> Run {
        let run = self.run(&[&MOUNT, more].concat(), &[]).await;
        assert_eq!(run.code, Some(0), "{run:#?}");
        run
    }

    /// Mounts into `target`, which must end with this code and one message with all these parts.
    pub async fn refused(&self, code: i32, parts: &[&str], more: &[&str]) -> Run {
        self.refused_in(&[], code, parts, more).await
    }

    /// As [`World::refused`], with variables in the environment.
    pub async fn refused_in(&self, variables: &[(&str, &str)], code: i32, parts: &[&str], more: &[&str]) -> Run {
        let before = self.tree();
        let run = self.run(&[&MOUNT, more].concat(), variables).await;
        assert_eq!((run.code, run.stdout.as_str()), (Some(code), ""), "{run:#?}");
        for part in parts {
            assert!(run.stderr.contains(part), "{part:?} is not in {run:#?}");
        }
        let errors = run.stderr.lines().filter(|line| line.starts_with("error: ")).count();
        assert_eq!(errors, 1, "{run:#?}");
        assert_no_repetition(&run.stderr);
        assert_eq!(self.tree(), before, "the target was touched");
        run
    }

    /// Runs any command; no secret may be in its output.
    pub async fn run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Run {
        let run = self.program.run(self.folder.path(), arguments, variables).await;
        for canary in CANARIES {
            assert!(!run.stdout.contains(canary) && !run.stderr.contains(canary), "{canary} is in the output");
        }
        run
    }

    /// The target, with everything that a write would change.
    pub fn tree(&self) -> Option<Tree> {
        Tree::read(&self.path("target"))
    }

    pub fn file(&self, name: &str) -> String {
        fs::read_to_string(self.path("target").join(name)).unwrap()
    }
}

pub const MOUNT: [&str; 6] = ["mount", "class.yaml", "secret.yaml", "target", "--config", "config.yaml"];

/// The walk-through's class with its placeholders filled in.
pub fn class() -> String {
    CLASS.replace("<key-vault-name>", VAULT).replace("<tenant-Id>", TENANT)
}

/// The class with other objects; each is the lines of one element.
pub fn class_of(objects: &[&str]) -> String {
    let (head, rest) = CLASS.split_once("        - |").unwrap();
    let tail = rest.find("    tenantId:").map(|at| rest.split_at(at).1).unwrap();
    let element = |lines: &&str| format!("        - |\n          {}\n", lines.replace('\n', "\n          "));
    let text = format!("{head}{}{tail}", objects.iter().map(element).collect::<String>());
    text.replace("<key-vault-name>", VAULT).replace("<tenant-Id>", TENANT)
}

/// A tenant of the cloud with the application and the vault of the walk-through.
pub fn furnish(emulator: &Emulator, cloud: &Cloud, tenant: &str) -> Vault {
    let tenant = emulator.tenant_in(cloud, tenant);
    tenant.app(CLIENT_ID).secret(CLIENT_SECRET);
    let vault = tenant.vault(VAULT);
    vault.allow_all(CLIENT_ID).secret("DemoSecret").set("MyExampleSecret");
    vault
}

/// One clear message: no part of it comes twice.
fn assert_no_repetition(stderr: &str) {
    let parts = stderr.split(['\n', ';']).flat_map(|line| line.split(": ")).map(str::trim);
    let mut parts: Vec<&str> = parts.filter(|part| part.len() >= SENTENCE).collect();
    parts.sort_unstable();
    if let Some(twice) = parts.windows(2).find(|pair| pair[0] == pair[1]) {
        panic!("{:?} stands twice in\n{stderr}", twice[0]);
    }
    let lines: Vec<&str> = stderr.lines().filter_map(|line| Some(line.split_once(": ")?.1)).collect();
    for (index, line) in lines.iter().enumerate() {
        let again = lines.iter().enumerate().any(|(other, text)| other != index && text.contains(line));
        assert!(!again, "{line:?} stands twice in\n{stderr}");
    }
}

/// The entries of a folder by name.
pub fn list(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
