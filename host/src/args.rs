//! The command line: what can be typed, and nothing else. `main` parses it, `commands` act on it.

mod duration;
pub mod node;
mod spelling;

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};

use crate::exit;
use crate::units::Span;
pub use duration::Interval;
pub use node::{Endpoint, Listen, Node};

/// Mounts secrets into Kubernetes pods.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = exit::HELP)]
pub struct Arguments {
    /// What to log to stderr [default: info for `node`, else warn]
    #[arg(long, global = true, value_enum, value_name = "LEVEL", display_order = 100)]
    pub log_level: Option<LogLevel>,

    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Mount a class into a folder, without a cluster
    #[command(after_help = exit::HELP)]
    Mount(Box<Mount>),
    /// Say everything that is wrong with classes, without a secret store
    #[command(after_help = exit::HELP)]
    Check(Check),
    /// Be the CSI driver of this node
    #[command(args_override_self = true, after_help = node::help())]
    Node(Box<Node>),
    /// List the volumes of the running driver: how fresh they are, what is in them, what is wrong
    #[command(after_help = STATUS_HELP)]
    Status(Status),
    /// Have the running driver look at volumes now
    #[command(after_help = REFRESH_HELP)]
    Refresh(Refresh),
    /// Print or set what the running driver logs
    #[command(after_help = exit::HELP)]
    LogLevel(SetLogLevel),
    /// Print the CustomResourceDefinitions
    Crds,
    /// Print the shipped configuration or the schema of configurations
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Compile a component from stdin to stdout
    #[command(hide = true)]
    CompileComponent(Compile),
}

/// `coffer mount`
#[derive(Debug, Args)]
pub struct Mount {
    /// Files with SecretProviderClass and Secret manifests; `-` is stdin
    #[arg(required = true, value_name = "CLASS")]
    pub manifests: Vec<PathBuf>,

    /// The folder to mount into; it is made if it is not there
    #[arg(value_name = "TARGET")]
    pub target: PathBuf,

    /// The class to mount, where the manifests hold several
    #[arg(long, value_name = "NAME")]
    pub class: Option<String>,

    /// The Secret to pass to the provider (nodePublishSecretRef), where the manifests hold several
    #[arg(long, value_name = "NAME")]
    pub secret: Option<String>,

    /// A volume attribute of the pod, which overrides a parameter of the class; may be given several times
    #[arg(long = "attribute", value_name = "KEY=VALUE")]
    pub attributes: Vec<Attribute>,

    /// The pod's name
    #[arg(long, value_name = "NAME", default_value = "coffer-mount")]
    pub pod_name: String,

    /// The pod's namespace [default: that of the class, or "default"]
    #[arg(long, value_name = "NAMESPACE")]
    pub pod_namespace: Option<String>,

    /// The pod's UID
    #[arg(long, value_name = "UID", default_value = "00000000-0000-0000-0000-000000000000")]
    pub pod_uid: String,

    /// The pod's service account
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub service_account: String,

    /// A file with a token of the service account, as `kubectl create token --audience` prints it; may be given several
    /// times
    #[arg(long = "token", value_name = "AUDIENCE=FILE")]
    pub tokens: Vec<TokenFile>,

    /// The mode of files for which the class says none
    #[arg(long, value_name = "OCTAL", default_value = "0644")]
    pub mode: Mode,

    /// How long the provider may take [default, and most: the deadline of its limits]
    #[arg(long, value_name = "DURATION")]
    pub timeout: Option<Span>,

    /// Do everything but write, and say what would change
    #[arg(long)]
    pub dry_run: bool,

    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help of every command")]
    pub shared: Shared,
}

/// `coffer check`
#[derive(Debug, Args)]
pub struct Check {
    /// Files with SecretProviderClass manifests; `-` is stdin
    #[arg(required = true, value_name = "CLASS")]
    pub manifests: Vec<PathBuf>,

    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help of every command")]
    pub shared: Shared,
}

/// What `mount` and `check` have in common.
#[derive(Debug, Args)]
pub struct Shared {
    /// The configuration [default: /etc/coffer/config.yaml if it exists, else what ships]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// How to print the result to stdout, and an error to stderr
    #[arg(long, value_enum, default_value_t = Output::Table, value_name = "FORM")]
    pub output: Output,
}

/// `coffer log-level`
#[derive(Debug, Args)]
pub struct SetLogLevel {
    /// The level from now on; without it, the level is printed
    #[arg(value_enum)]
    pub level: Option<LogLevel>,

    /// The admin socket of the driver
    #[arg(long, value_name = "PATH", default_value = node::ADMIN_SOCKET)]
    pub admin_socket: PathBuf,
}

/// `coffer status`
#[derive(Debug, Args)]
pub struct Status {
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help of every command")]
    pub choice: Volumes,

    /// Go on until Ctrl-C: redraw a terminal, else print a line for each change
    #[arg(long)]
    pub watch: bool,

    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help of every command")]
    pub driver: Driver,
}

/// `coffer refresh`
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").required(true).multiple(true).args(["namespace", "pod", "class", "all"]))]
pub struct Refresh {
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help of every command")]
    pub choice: Volumes,

    /// All volumes of the node
    #[arg(long, conflicts_with_all = ["namespace", "pod", "class"])]
    pub all: bool,

    /// Wait until each was looked at; this is the default
    #[arg(long, overrides_with = "no_wait")]
    pub wait: bool,

    /// Do not wait for what comes of it
    #[arg(long, overrides_with = "wait")]
    pub no_wait: bool,

    /// How long to wait at most; 10m is the longest
    #[arg(long, value_name = "DURATION", default_value = "2m")]
    pub timeout: Span,

    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help of every command")]
    pub driver: Driver,
}

/// Which volumes of the node.
#[derive(Debug, Args)]
pub struct Volumes {
    /// Those of pods in this namespace
    #[arg(long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,

    /// Those of pods with this name
    #[arg(long, value_name = "NAME")]
    pub pod: Option<String>,

    /// Those of classes with this name
    #[arg(long, value_name = "NAME")]
    pub class: Option<String>,
}

/// Whom to ask, and how to print the answer.
#[derive(Debug, Args)]
pub struct Driver {
    /// How to print the result to stdout, and an error to stderr
    #[arg(long, value_enum, default_value_t = Output::Table, value_name = "FORM")]
    pub output: Output,

    /// The admin socket of the driver
    #[arg(long, value_name = "PATH", default_value = node::ADMIN_SOCKET)]
    pub admin_socket: PathBuf,
}

/// The exit codes of `coffer status`.
const STATUS_HELP: &str = "\
Exit codes:
   0  every volume that is shown is right
   1  one or more are not: the last look failed, or they have a kept result
  64  usage: the command line is wrong
  65  no volume fits
  69  the driver does not answer
  77  the admin socket is for root alone";

/// The exit codes of `coffer refresh`.
const REFRESH_HELP: &str = "\
Exit codes:
   0  every volume was looked at and is right; with --no-wait: all were asked for
   1  a look failed, or a volume was not looked at in time
  64  usage: the command line is wrong
  65  no volume fits
  69  the driver does not answer
  77  the admin socket is for root alone";

/// `coffer compile-component`, as the sandbox calls it
#[derive(Debug, Args)]
pub struct Compile {
    /// Bytes of address space
    #[arg(long)]
    pub address_space: u64,

    /// Seconds of processor time
    #[arg(long)]
    pub cpu_seconds: u64,
}

/// `coffer config`
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum ConfigCommand {
    /// The shipped configuration, with an explanation of every key
    Default,
    /// The JSON schema of configurations
    Schema,
}

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    #[default]
    Table,
    /// One JSON object
    Json,
}

/// How much to log, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
#[allow(missing_docs, reason = "the names say it, and doc comments would be printed")]
pub enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Arguments {
    /// Reads the words of a command line, the program's name first. `node` may be written as Go programs are.
    ///
    /// # Errors
    ///
    /// What is wrong with it; asking for help is one, too.
    pub fn read(words: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let (words, ignored) = spelling::normalise(words.into_iter().collect());
        let mut arguments = Self::try_parse_from(words)?;
        if let Command::Node(node) = &mut arguments.command {
            node.ignored = ignored;
        }
        Ok(arguments)
    }
}

impl LogLevel {
    /// As it is typed.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// `KEY=VALUE`. The value is not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Attribute {
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
}

impl std::fmt::Debug for Attribute {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Attribute({})", self.key)
    }
}

/// `AUDIENCE=FILE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenFile {
    /// Whom the token is for.
    pub audience: String,
    /// Where it is.
    pub file: PathBuf,
}

/// Permission bits, 0 to 0o777.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode(pub u32);

impl FromStr for Attribute {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
        if key.is_empty() {
            return Err("the key is missing".into());
        }
        if key == "secretProviderClass" {
            return Err("name the class with --class".into());
        }
        if key.starts_with("csi.storage.k8s.io/") {
            return Err("kubelet sets this attribute; use the --pod-… and --service-account options".into());
        }
        Ok(Self { key: key.to_owned(), value: value.to_owned() })
    }
}

impl FromStr for TokenFile {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((audience, file)) if !audience.is_empty() && !file.is_empty() => {
                Ok(Self { audience: audience.to_owned(), file: PathBuf::from(file) })
            }
            _ => Err("write AUDIENCE=FILE"),
        }
    }
}

impl FromStr for Mode {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let digits = text.strip_prefix("0o").unwrap_or(text);
        let octal = !digits.is_empty() && digits.bytes().all(|b| matches!(b, b'0'..=b'7'));
        let mode = if octal { u32::from_str_radix(digits, 8).ok() } else { None };
        mode.filter(|mode| *mode <= 0o777).map(Self).ok_or("write permission bits in octal, 0000 to 0777")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(arguments: &[&str]) -> Result<Box<Mount>, clap::Error> {
        match Arguments::try_parse_from(["coffer", "mount"].iter().chain(arguments))?.command {
            Command::Mount(mount) => Ok(mount),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_is_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_last_path_is_the_target() {
        let mount = mount(&["a.yaml", "-", "out", "--dry-run"]).unwrap();
        assert_eq!(mount.manifests, [PathBuf::from("a.yaml"), PathBuf::from("-")]);
        assert_eq!(mount.target, PathBuf::from("out"));
        assert_eq!((mount.mode, mount.dry_run), (Mode(0o644), true));
    }

    #[test]
    fn one_path_is_not_enough() {
        assert!(mount(&["out"]).is_err());
    }

    #[test]
    fn attributes_of_kubelet_are_not_for_typing() {
        assert!(mount(&["c", "t", "--attribute", "keyvaultName=x"]).is_ok());
        for wrong in ["keyvaultName", "=x", "csi.storage.k8s.io/pod.name=x", "secretProviderClass=x"] {
            assert!(mount(&["c", "t", "--attribute", wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_token_has_an_audience_and_a_file() {
        let mount = mount(&["c", "t", "--token", "api://a=x/y=z"]).unwrap();
        assert_eq!(mount.tokens, [TokenFile { audience: "api://a".into(), file: PathBuf::from("x/y=z") }]);
        for wrong in ["api://a", "=x", "api://a="] {
            assert!("t".parse::<TokenFile>().is_err() && wrong.parse::<TokenFile>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn modes_are_octal_permission_bits() {
        assert_eq!("0400".parse(), Ok(Mode(0o400)));
        assert_eq!("0o640".parse(), Ok(Mode(0o640)));
        for wrong in ["", "0o", "1000", "0888", "rw", "-1", "+7", "644 "] {
            assert!(wrong.parse::<Mode>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_level_has_the_name_that_is_typed() {
        for level in LogLevel::value_variants() {
            assert_eq!(LogLevel::from_str(level.name(), false), Ok(*level));
        }
    }

    #[test]
    fn the_level_of_the_running_driver_is_asked_or_set() {
        for (words, expected) in
            [(&["coffer", "log-level"][..], None), (&["coffer", "log-level", "debug"], Some(LogLevel::Debug))]
        {
            let Command::LogLevel(parsed) = Arguments::try_parse_from(words).unwrap().command else { panic!() };
            assert_eq!((parsed.level, parsed.admin_socket), (expected, PathBuf::from(node::ADMIN_SOCKET)));
        }
        assert!(Arguments::try_parse_from(["coffer", "log-level", "loud"]).is_err());
    }

    #[test]
    fn a_refresh_says_which_volumes_and_never_means_all_by_accident() {
        let read = |words: &[&str]| {
            let words = ["coffer", "refresh"].iter().chain(words);
            Arguments::try_parse_from(words).map(|arguments| match arguments.command {
                Command::Refresh(refresh) => refresh,
                other => panic!("{other:?}"),
            })
        };
        assert!(read(&[]).is_err() && read(&["--wait"]).is_err());
        assert!(read(&["--all", "--pod", "web"]).is_err());
        assert!(read(&["--all", "--timeout", "0s"]).is_err());
        let all = read(&["--all"]).unwrap();
        assert_eq!((all.all, all.no_wait, all.timeout.0.as_secs()), (true, false, 120));
        let some = read(&["--namespace", "shop", "--class", "kv", "--wait", "--no-wait"]).unwrap();
        assert_eq!((some.choice.namespace.as_deref(), some.choice.class.as_deref()), (Some("shop"), Some("kv")));
        assert!(some.no_wait && !some.wait);
        assert!(!read(&["--all", "--no-wait", "--wait"]).unwrap().no_wait, "the last one counts");
    }

    #[test]
    fn a_status_shows_all_volumes_unless_some_are_named() {
        let Command::Status(status) = Arguments::try_parse_from(["coffer", "status"]).unwrap().command else {
            panic!()
        };
        assert_eq!((status.choice.pod, status.watch, status.driver.output), (None, false, Output::Table));
        assert_eq!(status.driver.admin_socket, PathBuf::from(node::ADMIN_SOCKET));
    }

    #[test]
    fn options_that_are_shared_stand_behind_the_command() {
        let parsed = Arguments::try_parse_from(["coffer", "check", "c", "--output", "json", "--log-level", "debug"]);
        assert!(parsed.is_ok());
    }
}
