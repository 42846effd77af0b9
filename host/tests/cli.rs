//! The program as a user runs it: exit codes, output, and what must never be in it. No plugin is needed; what needs one
//! is tested in `tests/`.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use coffer::args::LogLevel;
use coffer::tasks::Tasks;
use coffer::telemetry;

const CLASS: &str = "\
apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata:
  name: demo
spec:
  provider: azure
  parameters:
    usePodIdentity: \"false\"
    keyvaultName: kv
    cloudName:
    objects: |
      array: []
    tenantId: t
";

const SECRET: &str = "\
apiVersion: v1
kind: Secret
metadata:
  name: creds
stringData:
  clientid: id
  clientsecret: CANARY-7f3a
";

/// A folder with files, and the program run in it with an empty environment.
struct Place(tempfile::TempDir);

impl Place {
    fn with(files: &[(&str, &str)]) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        for (name, content) in files {
            std::fs::write(place.path().join(name), content).unwrap();
        }
        place
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn run(&self, arguments: &[&str]) -> Run {
        self.run_with_stdin(arguments, "")
    }

    fn run_with_stdin(&self, arguments: &[&str], stdin: &str) -> Run {
        let mut child = Command::new(env!("CARGO_BIN_EXE_coffer"))
            .args(arguments)
            .current_dir(self.path())
            .env_clear()
            .env("XDG_CACHE_HOME", self.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A program that ends before it reads closes the pipe.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        Run::from(child.wait_with_output().unwrap())
    }
}

#[derive(Debug)]
struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// A configuration whose provider `azure` has no component.
const NO_PLUGIN: &str = "cache: cache\nproviders: {azure: {plugin: {file: missing.wasm}}}\n";

#[test]
fn a_wrong_command_line_ends_with_64() {
    let place = Place::with(&[]);
    let wrong: [&[&str]; 12] = [
        &[],
        &["mnt"],
        &["mount", "only-one-path"],
        &["mount", "c", "t", "--mode", "rw"],
        &["mount", "c", "t", "--timeout", "0s"],
        &["check", "c", "--outptu", "json"],
        &["node", "word"],
        &["node", "-filtered-watch-secret=false"],
        &["node", "-enable-secret-rotation", "true"],
        &["node", "-rotation-poll-interval=-1s"],
        &["node", "--endpoint=tcp://127.0.0.1:1"],
        &["log-level", "loud"],
    ];
    for arguments in wrong {
        let run = place.run(arguments);
        assert_eq!(run.code, Some(64), "{arguments:?}: {run:?}");
        assert!(run.stdout.is_empty() && !run.stderr.is_empty(), "{run:?}");
    }
}

#[test]
fn help_and_version_end_with_0_and_explain_the_exit_codes() {
    let place = Place::with(&[]);
    let help: [&[&str]; 6] = [
        &["--help"],
        &["mount", "--help"],
        &["check", "--help"],
        &["log-level", "--help"],
        &["node", "--help"],
        &["node", "-h"],
    ];
    for arguments in help {
        let run = place.run(arguments);
        assert_eq!(run.code, Some(0));
        assert!(run.stdout.contains("77  denied"), "{run:?}");
        assert!(!run.stdout.contains("compile-component"), "{run:?}");
    }
    assert_eq!(place.run(&["--version"]).code, Some(0));
}

#[test]
fn node_tells_its_version_as_the_driver_before_it() {
    let place = Place::with(&[]);
    for arguments in [["node", "--version"], ["node", "-version=true"]] {
        let run = place.run(&arguments);
        let version: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
        assert_eq!((run.code, version["BuildVersion"].as_str()), (Some(0), Some(env!("CARGO_PKG_VERSION"))));
        assert!(version["GitCommit"].is_string() && version["BuildDate"].is_string());
    }
    let help = place.run(&["node", "--help"]).stdout;
    assert!(
        help.contains("-endpoint=URL") && help.contains("provider-volume, additional-provider-volume-paths"),
        "{help}"
    );
}

#[test]
fn a_flag_that_is_gone_is_told_by_its_name() {
    let run = Place::with(&[]).run(&["node", "-filtered-watch-secret=false"]);
    assert!(run.stderr.contains("'--filtered-watch-secret'"), "{run:?}");
}

#[test]
fn the_level_of_a_running_driver_is_told_and_set() {
    let place = Place::with(&[]);
    let run = place.run(&["log-level", "--admin-socket", "admin.sock"]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(69), ""));
    assert!(run.stderr.starts_with("error: no driver answers at admin.sock\ncause: "), "{run:?}");
    assert!(run.stderr.contains("help: is `coffer node` running in this container?"), "{run:?}");

    let settings =
        telemetry::Settings { level: LogLevel::Error, format: telemetry::Format::Text, audit: telemetry::Audit::Never };
    let log = telemetry::start(settings);
    // Two threads: one serves while the other waits for the program.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _inside = runtime.enter();
    let socket = place.path().join("admin.sock");
    telemetry::admin::serve(&socket, log.clone(), Default::default(), &Tasks::default()).unwrap();
    let steps: [(&[&str], &str); 4] =
        [(&[], "error\n"), (&["debug"], "debug\n"), (&[], "debug\n"), (&["off"], "off\n")];
    for (level, expected) in steps {
        let run = place.run(&[&["log-level", "--admin-socket", "admin.sock"], level].concat());
        assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (Some(0), expected, ""));
    }
    assert_eq!(log.level(), LogLevel::Off);
}

#[test]
fn the_shipped_configuration_is_printed_and_accepted() {
    let place = Place::with(&[("class.yaml", CLASS)]);
    let printed = place.run(&["config", "default"]);
    assert_eq!(printed.code, Some(0));
    std::fs::write(place.path().join("config.yaml"), printed.stdout + "cache: cache\n").unwrap();
    // Everything is accepted, so only the component is missed.
    let run = place.run(&["check", "class.yaml", "--config", "config.yaml"]);
    assert_eq!(run.code, Some(70), "{run:?}");
    assert!(run.stderr.contains("azure-key-vault.wasm cannot be read"), "{run:?}");
}

#[test]
fn the_schema_is_json_and_knows_no_other_keys() {
    let run = Place::with(&[]).run(&["config", "schema"]);
    let schema: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((run.code, &schema["additionalProperties"]), (Some(0), &serde_json::json!(false)));
    assert!(schema["properties"]["providers"].is_object());
}

#[test]
fn check_tells_everything_that_is_wrong_at_once() {
    let wrong = CLASS.replace("azure", "azrue").replace("\"false\"", "false").replace("metadata:", "metdata:");
    let place = Place::with(&[("class.yaml", &wrong), ("config.yaml", NO_PLUGIN)]);
    let run = place.run(&["check", "class.yaml", "--config", "config.yaml"]);
    assert_eq!(run.code, Some(65));
    let expected = "\
error: class.yaml:1:1: `metadata.name` is missing
error: class.yaml:3:1: unknown key `metdata` in SecretProviderClass
help: did you mean `metadata`?
error: class.yaml:8:21: `spec.parameters.usePodIdentity` must be a string, not a boolean
help: put it into quotes
error: class.yaml:6:13: SecretProviderClass ``: there is no provider `azrue`
help: did you mean `azure`?
";
    assert_eq!(run.stdout, expected);
    assert_eq!(run.stderr, "");
}

#[test]
fn check_speaks_json() {
    let place = Place::with(&[("class.yaml", &CLASS.replace("azure", "vault")), ("config.yaml", NO_PLUGIN)]);
    let run = place.run(&["check", "class.yaml", "--config", "config.yaml", "--output", "json"]);
    let found: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(run.code, Some(65));
    assert_eq!(found["classes"], serde_json::json!(["demo"]));
    assert_eq!(found["mistakes"][0]["position"]["line"], 6);
    assert_eq!(found["mistakes"][0]["help"], "configured providers: azure");
}

#[test]
fn a_component_that_is_not_there_ends_with_70_and_one_message() {
    let place = Place::with(&[("class.yaml", CLASS), ("secret.yaml", SECRET), ("config.yaml", NO_PLUGIN)]);
    let run = place.run(&["mount", "class.yaml", "secret.yaml", "out", "--config", "config.yaml"]);
    assert_eq!(run.code, Some(70));
    assert_eq!(run.stderr.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{run:?}");
    assert!(run.stderr.contains("missing.wasm cannot be read"), "{run:?}");
    assert!(!place.path().join("out").exists(), "the target was not touched");
}

#[test]
fn a_component_that_is_none_ends_with_70() {
    let place = Place::with(&[("class.yaml", CLASS), ("config.yaml", NO_PLUGIN), ("missing.wasm", "#!/bin/sh\n")]);
    let run = place.run(&["mount", "class.yaml", "out", "--config", "config.yaml", "--output", "json"]);
    let failed: serde_json::Value = serde_json::from_str(&run.stderr).unwrap();
    assert_eq!((run.code, run.stdout.as_str()), (Some(70), ""));
    assert_eq!(failed["error"]["exitCode"], 70);
    assert_eq!(failed["error"]["reason"], "PluginNotAComponent");
}

#[test]
fn manifests_can_come_from_stdin_once() {
    let place = Place::with(&[("config.yaml", NO_PLUGIN)]);
    let stdin = format!("{CLASS}---\n{SECRET}");
    let run = place.run_with_stdin(&["mount", "-", "out", "--config", "config.yaml"], &stdin);
    assert_eq!(run.code, Some(70), "the manifests are right, the plugin is missing: {run:?}");
    let run = place.run_with_stdin(&["mount", "-", "-", "out", "--config", "config.yaml"], &stdin);
    assert_eq!((run.code, run.stderr.as_str()), (Some(64), "error: stdin is named twice; it can be read once\n"));
    let run = place.run_with_stdin(&["mount", "-", "out", "--config", "config.yaml"], "kind: [");
    assert!(run.code == Some(65) && run.stderr.starts_with("error: stdin:1:7: not valid YAML"), "{run:?}");
}

#[test]
fn several_objects_need_a_choice() {
    let classes = format!("{CLASS}---\n{}", CLASS.replace("demo", "other"));
    let secrets = format!("{SECRET}---\n{}", SECRET.replace("creds", "others"));
    let place = Place::with(&[("c.yaml", &classes), ("s.yaml", &secrets), ("config.yaml", NO_PLUGIN)]);
    let run =
        |more: &[&str]| place.run(&[&["mount", "c.yaml", "s.yaml", "out", "--config", "config.yaml"], more].concat());
    let many = run(&[]);
    assert_eq!(many.code, Some(64));
    assert!(many.stderr.contains("help: choose with --class: demo, other\n"), "{many:?}");
    assert!(run(&["--class", "demo"]).stderr.contains("help: choose with --secret: creds, others\n"));
    assert!(run(&["--class", "dmeo"]).stderr.contains("help: did you mean `demo`?\n"));
    assert_eq!(run(&["--class", "demo", "--secret", "creds"]).code, Some(70));
}

#[test]
fn files_without_a_class_and_other_namespaces_are_refused() {
    let elsewhere = SECRET.replace("name: creds", "name: creds\n  namespace: elsewhere");
    let files = [("class.yaml", CLASS), ("secret.yaml", &elsewhere), ("pod.yaml", "apiVersion: v1\nkind: Pod\n")];
    let place = Place::with(&[files.as_slice(), &[("config.yaml", NO_PLUGIN)]].concat());
    let none = place.run(&["mount", "pod.yaml", "out", "--config", "config.yaml"]);
    assert_eq!(none.code, Some(65));
    assert!(none.stderr.contains("there is no SecretProviderClass") && none.stderr.contains("Pod"), "{none:?}");
    let other = place.run(&["mount", "class.yaml", "secret.yaml", "out", "--config", "config.yaml"]);
    assert!(other.code == Some(65) && other.stderr.contains("is in namespace `elsewhere`"), "{other:?}");
}

#[test]
fn an_override_that_the_configuration_forbids_ends_with_77() {
    let config = format!("volumeAttributeOverrides: deny\n{NO_PLUGIN}");
    let place = Place::with(&[("class.yaml", CLASS), ("config.yaml", &config)]);
    let arguments = ["mount", "class.yaml", "out", "--config", "config.yaml", "--attribute", "keyvaultName=x"];
    let run = place.run(&arguments);
    assert!(run.code == Some(77) && run.stderr.contains("`keyvaultName`"), "{run:?}");
}

#[test]
fn a_wrong_configuration_ends_with_65_and_its_position() {
    let place = Place::with(&[("class.yaml", CLASS), ("config.yaml", "providers:\n  azure:\n    egres: []\n")]);
    let run = place.run(&["check", "class.yaml", "--config", "config.yaml"]);
    let expected = "error: config.yaml:3:5: unknown key `egres`\nhelp: did you mean `egress`?\n";
    assert_eq!((run.code, run.stderr.as_str()), (Some(65), expected));
    assert_eq!(place.run(&["check", "class.yaml", "--config", "missing.yaml"]).code, Some(65));
}

#[test]
fn a_secret_is_in_no_output_however_broken_its_manifest_is() {
    let value = "CANARY-7f3a";
    let broken = [
        SECRET.replace("stringData", "stringdata"),
        SECRET.replace("stringData", "data"),
        SECRET.replace("clientsecret: CANARY", "clientsecret: *CANARY"),
        SECRET.replace("clientsecret: CANARY", "clientsecret: @CANARY"),
        SECRET.replace("clientsecret: CANARY", "clientsecret: !CANARY-7f3a "),
        SECRET.replace("clientsecret: CANARY", "clientsecret: \"CANARY"),
        SECRET.replace("clientsecret: CANARY", "clientsecret: 'CANARY"),
        SECRET.replace("clientsecret: CANARY-7f3a", "clientsecret: [CANARY-7f3a"),
        SECRET.replace("clientsecret: CANARY-7f3a", "clientsecret: {a: CANARY-7f3a}"),
        SECRET.replace("clientsecret: CANARY-7f3a", "clientsecret: CANARY-7f3a: x"),
        SECRET.replace("clientsecret: CANARY-7f3a", "clientsecret:\n  CANARY-7f3a"),
        SECRET.replace("clientsecret: CANARY-7f3a", "clientsecret: CANARY-7f3a\n  clientsecret: CANARY-7f3a"),
        SECRET.replace("clientsecret: CANARY-7f3a", "clientsecret: \"CANARY-7f3a\\q\""),
        SECRET.replace("kind: Secret", "kind: Secert"),
        SECRET.replace("metadata:\n  name: creds\n", ""),
        SECRET.replace("  clientsecret", "\tclientsecret"),
    ];
    for secret in &broken {
        let place = Place::with(&[("class.yaml", CLASS), ("secret.yaml", secret), ("config.yaml", NO_PLUGIN)]);
        for output in ["table", "json"] {
            let common = ["--config", "config.yaml", "--output", output, "--log-level", "trace"];
            let mount = place.run(&[&["mount", "class.yaml", "secret.yaml", "out"], &common[..]].concat());
            let check = place.run(&[&["check", "class.yaml", "secret.yaml"], &common[..]].concat());
            assert_eq!(mount.code, Some(65), "{secret}\n{mount:?}");
            for run in [&mount, &check] {
                assert!(!run.stdout.contains(value) && !run.stderr.contains(value), "{secret}\n{run:?}");
            }
        }
    }
}
