//! `coffer node`: its flags. Names, meanings and defaults are those of the Secrets Store CSI Driver where it has them,
//! so that a manifest written for it works; where one differs, its help says so. How they may be spelled is `spelling`'s.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{ArgAction, Args};

use super::{Interval, LogLevel, spelling};
use crate::exit;

/// Where kubelet looks for the driver when nothing else is said.
const ENDPOINT: &str = "unix:///var/lib/kubelet/plugins/csi-secrets-store/csi.sock";
/// Beside it.
pub(super) const ADMIN_SOCKET: &str = "/var/lib/kubelet/plugins/csi-secrets-store/admin.sock";

/// `coffer node`
#[derive(Debug, Args)]
pub struct Node {
    /// The CSI socket. The Secrets Store CSI Driver has unix://tmp/csi.sock as default, and a sidecar that tells
    /// kubelet; this one registers itself, so the default is where kubelet looks
    #[arg(long, value_name = "URL", default_value = ENDPOINT)]
    pub endpoint: Endpoint,

    /// The driver's name
    #[arg(long, value_name = "NAME", default_value = "secrets-store.csi.k8s.io")]
    pub drivername: String,

    /// The node's name [default: $KUBE_NODE_NAME]
    #[arg(long, value_name = "NAME")]
    pub nodeid: Option<String>,

    /// The configuration [default: /etc/coffer/config.yaml if it exists, else what ships]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// A kubeconfig [default: $KUBECONFIG, the pod's service account, ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// The folder that kubelet watches for plugins; empty does not register
    #[arg(long, value_name = "FOLDER", default_value = "/var/lib/kubelet/plugins_registry", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub registration_dir: PathBuf,

    /// The key of a taint that is taken off the node once kubelet has registered the driver [default: none]
    #[arg(long, value_name = "KEY")]
    pub startup_taint: Option<String>,

    /// The CSI socket's path as kubelet sees it [default: that of --endpoint]
    #[arg(long, value_name = "PATH")]
    pub kubelet_registration_path: Option<PathBuf>,

    /// The folder for what has to survive a restart; holds no secret [default: `state` beside the CSI socket]
    #[arg(long, value_name = "FOLDER")]
    pub state_dir: Option<PathBuf>,

    /// The admin socket [default: admin.sock beside the CSI socket]
    #[arg(long, value_name = "PATH")]
    pub admin_socket: Option<PathBuf>,

    /// Where /metrics is served; "0" does not
    #[arg(long, value_name = "ADDRESS", default_value = ":8095")]
    pub metrics_addr: Listen,

    /// Where /healthz and /readyz are served; "0" does not
    #[arg(long, value_name = "ADDRESS", default_value = ":9808")]
    pub health_addr: Listen,

    /// Look for changed secrets again and again
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = read_bool, action = ArgAction::Set)]
    pub enable_secret_rotation: bool,

    /// How long after a successful look the next one is due; 0 is at kubelet's next call
    #[arg(long, value_name = "DURATION", default_value = "2m")]
    pub rotation_poll_interval: Interval,

    /// Log one JSON object per line
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = read_bool, action = ArgAction::Set)]
    pub log_format_json: bool,

    /// One line per request of a provider and per publish, whatever the log level is
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", value_parser = read_bool, action = ArgAction::Set)]
    pub audit: bool,

    /// How much to log, as the Secrets Store CSI Driver counts: 0 to 3 info, 4 and 5 debug, more trace; --log-level
    /// counts more
    #[arg(short = 'v', long = "v", value_name = "NUMBER")]
    pub verbosity: Option<u8>,

    /// Print the version as JSON
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = read_bool, action = ArgAction::Set)]
    pub version: bool,

    /// Flags that were given and have no meaning here.
    #[arg(skip)]
    pub ignored: Vec<&'static str>,
}

impl Node {
    /// The level that `-v` means.
    #[must_use]
    pub fn level_of_verbosity(&self) -> Option<LogLevel> {
        self.verbosity.map(|verbosity| match verbosity {
            0..=3 => LogLevel::Info,
            4 | 5 => LogLevel::Debug,
            6.. => LogLevel::Trace,
        })
    }
}

/// What `--version` of `coffer node` prints: the shape of the reference, with a line end. A build knows neither its
/// commit nor its date, which keeps it reproducible.
#[must_use]
pub fn version() -> String {
    format!(
        "{{\"BuildVersion\":\"{}\",\"GitCommit\":\"unknown\",\"BuildDate\":\"unknown\"}}\n",
        env!("CARGO_PKG_VERSION")
    )
}

pub(super) fn help() -> String {
    let ignored: Vec<&str> = spelling::IGNORED.iter().map(|flag| flag.name).collect();
    format!(
        "Flags may be written with one dash, as Go programs have them: -endpoint=URL.\n\n\
         Flags of the Secrets Store CSI Driver that are accepted and have no meaning:\n{}\n\n{}",
        ignored.join(", "),
        exit::HELP
    )
}

/// `unix://PATH`; a path without a leading `/` is taken from the root, as the reference does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(pub PathBuf);

/// `[HOST]:PORT`, or `0` for nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen(pub Option<SocketAddr>);

impl FromStr for Endpoint {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let path = match text.get(..7) {
            Some(scheme) if scheme.eq_ignore_ascii_case("unix://") => text.get(7..).unwrap_or_default(),
            _ => return Err("write unix:// and the path of a socket"),
        };
        match path.trim_start_matches('/') {
            "" => Err("the path of the socket is missing"),
            path => Ok(Self(PathBuf::from(format!("/{path}")))),
        }
    }
}

impl FromStr for Listen {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let wrong = "write HOST:PORT or :PORT with an IP address or localhost as host, or 0";
        if text == "0" {
            return Ok(Self(None));
        }
        let (host, port) = text.rsplit_once(':').ok_or(wrong)?;
        let host = match host {
            // All addresses, of both families.
            "" => IpAddr::from(Ipv6Addr::UNSPECIFIED),
            "localhost" => IpAddr::from(Ipv4Addr::LOCALHOST),
            _ => return text.parse().map(|address| Self(Some(address))).map_err(|_| wrong),
        };
        Ok(Self(Some((host, port.parse().map_err(|_| wrong)?).into())))
    }
}

/// The words that Go's flags know.
fn read_bool(text: &str) -> Result<bool, &'static str> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("write true or false"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Arguments, Command};
    use super::*;

    fn read(words: &[&str]) -> Result<Arguments, clap::Error> {
        Arguments::read(["coffer", "node"].iter().chain(words).map(Into::into))
    }

    fn node(words: &[&str]) -> Node {
        match read(words).map(|arguments| arguments.command) {
            Ok(Command::Node(node)) => *node,
            other => panic!("{words:?}: {other:?}"),
        }
    }

    #[test]
    fn defaults_are_those_of_the_reference_where_it_has_them() {
        let node = node(&[]);
        assert_eq!(node.drivername, "secrets-store.csi.k8s.io");
        assert_eq!((node.nodeid.as_deref(), node.kubeconfig.as_deref()), (None, None));
        assert_eq!(node.metrics_addr, Listen(Some("[::]:8095".parse().unwrap())));
        assert_eq!(node.health_addr, Listen(Some("[::]:9808".parse().unwrap())));
        assert_eq!(node.rotation_poll_interval, Interval(Duration::from_secs(120)));
        assert!(!node.enable_secret_rotation && !node.log_format_json && !node.version && node.audit);
        assert_eq!(node.endpoint, Endpoint("/var/lib/kubelet/plugins/csi-secrets-store/csi.sock".into()));
        assert_eq!(node.endpoint.0.with_file_name("admin.sock"), PathBuf::from(ADMIN_SOCKET));
    }

    #[test]
    fn the_command_line_of_todays_manifests_is_understood() {
        let node = node(&[
            "--endpoint=unix:///csi/csi.sock",
            "--nodeid=node-1",
            "--provider-volume=/var/run/secrets-store-csi-providers",
            "--additional-provider-volume-paths=/etc/kubernetes/secrets-store-csi-providers",
            "--metrics-addr=:8095",
            "--enable-secret-rotation=true",
            "--rotation-poll-interval=2m0s",
            "--provider-health-check=false",
            "--max-call-recv-msg-size=4194304",
            "-v=5",
        ]);
        assert_eq!(node.endpoint, Endpoint("/csi/csi.sock".into()));
        assert_eq!((node.nodeid.as_deref(), node.enable_secret_rotation), (Some("node-1"), true));
        assert_eq!(node.level_of_verbosity(), Some(LogLevel::Debug));
        let ignored =
            ["provider-volume", "additional-provider-volume-paths", "provider-health-check", "max-call-recv-msg-size"];
        assert_eq!(node.ignored, ignored);
    }

    #[test]
    fn endpoints_are_unix_sockets_below_the_root() {
        for (text, path) in [
            ("unix:///csi/csi.sock", "/csi/csi.sock"),
            ("unix://tmp/csi.sock", "/tmp/csi.sock"),
            ("UNIX:////csi/csi.sock", "/csi/csi.sock"),
        ] {
            assert_eq!(text.parse(), Ok(Endpoint(path.into())), "{text}");
        }
        for text in ["", "unix://", "unix:///", "tcp://127.0.0.1:1", "/csi/csi.sock", "unix:/csi.sock", "únix://x"] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_are_an_ip_address_and_a_port_or_nowhere() {
        let listens = [
            ("0", None),
            (":8095", Some("[::]:8095")),
            ("0.0.0.0:80", Some("0.0.0.0:80")),
            ("[::1]:80", Some("[::1]:80")),
            ("localhost:80", Some("127.0.0.1:80")),
        ];
        for (text, address) in listens {
            assert_eq!(text.parse(), Ok(Listen(address.map(|address| address.parse().unwrap()))), "{text}");
        }
        for text in ["", ":", "8095", ":x", ":65536", "node:80", "::1:80", "localhost:", "1.2.3.4"] {
            assert!(text.parse::<Listen>().is_err(), "{text}");
        }
    }

    #[test]
    fn verbosity_counts_as_in_the_reference() {
        use LogLevel::{Debug, Info, Trace};
        for (number, level) in [("0", Info), ("3", Info), ("4", Debug), ("5", Debug), ("6", Trace), ("10", Trace)] {
            assert_eq!(node(&["-v", number]).level_of_verbosity(), Some(level), "{number}");
        }
        assert_eq!(node(&[]).level_of_verbosity(), None);
    }

    #[test]
    fn values_that_make_no_sense_are_refused() {
        for wrong in [
            ["--endpoint=tcp://127.0.0.1:1"],
            ["--metrics-addr=node:1"],
            ["--rotation-poll-interval=-1s"],
            ["--rotation-poll-interval=2"],
            ["--enable-secret-rotation=maybe"],
            ["-v=loud"],
            ["--log-level=loud"],
        ] {
            assert!(read(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_empty_registration_folder_can_be_said() {
        assert_eq!(node(&["--registration-dir="]).registration_dir, PathBuf::new());
    }

    #[test]
    fn every_flag_is_documented_and_every_documented_flag_exists() {
        let document = include_str!("../../../docs/operations.md");
        let section = document.split("\n## ").find(|section| section.starts_with("Flags\n")).unwrap();
        let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
        let mut documented: Vec<_> = rows.map(|(name, _)| name).collect();
        let definition = Node::augment_args(clap::Command::new("node"));
        let mut defined: Vec<_> = definition.get_arguments().filter_map(clap::Arg::get_long).collect();
        defined.push("log-level");
        documented.sort_unstable();
        defined.sort_unstable();
        assert_eq!(documented, defined);
        for flag in &spelling::IGNORED {
            assert!(section.contains(&format!("`{}`", flag.name)), "{}", flag.name);
        }
    }

    #[test]
    fn the_version_is_the_json_of_the_reference() {
        let value: serde_json::Value = serde_json::from_str(&version()).unwrap();
        let keys: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["BuildDate", "BuildVersion", "GitCommit"]);
        assert_eq!(value["BuildVersion"], env!("CARGO_PKG_VERSION"));
    }
}
