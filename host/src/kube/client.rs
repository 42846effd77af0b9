//! The way to the API server: where it is, who Coffer is to it, and how long anything may take.
//!
//! Nothing here limits how fast Coffer asks: what it asks is bounded where it is asked. Every request passes
//! [`Client`]'s one door in `call`, which counts it. The caller is `commands::node`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::header::USER_AGENT;
use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};

/// How long a connection may take to stand.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a call may take, from the connection to the last byte of the answer.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(15);

type Error = Box<dyn std::error::Error + Send + Sync>;
type Counter = dyn Fn(&'static str, &'static str, &str) + Send + Sync;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing says where the API server is.
    #[error("no way to the API server: looked at {looked}; name a kubeconfig with --kubeconfig")]
    Config {
        /// Where it was looked for, with what was found there.
        looked: String,
        /// What was wrong with the last place that was there at all.
        #[source]
        source: Option<Error>,
    },
    /// A proxy.
    #[error("the kubeconfig asks for a proxy (proxy-url), and Coffer speaks to the API server directly; remove it")]
    Proxy,
    /// What was found cannot be used: certificates, credentials.
    #[error("no way to the API server at {url}")]
    Unusable {
        /// The server.
        url: String,
        /// Why.
        source: Error,
    },
}

/// A client of the API server. Clones share its connections.
#[derive(Clone)]
pub struct Client {
    pub(super) http: kube::Client,
    pub(super) url: Arc<str>,
    counter: Arc<Counter>,
}

impl Client {
    /// Counts a call.
    pub(super) fn count(&self, verb: &'static str, resource: &'static str, code: &str) {
        (self.counter)(verb, resource, code);
    }
}

/// A client for the named kubeconfig, else `KUBECONFIG`, else in the cluster, else `~/.kube/config`.
///
/// `counter` is told of every call: the verb and the resource, both of closed sets, and the status code or `error`.
///
/// # Errors
///
/// No place says where the API server is, or what it says cannot be used. Whether anybody answers there is not tried.
pub async fn connect(
    kubeconfig: Option<&Path>,
    counter: impl Fn(&'static str, &'static str, &str) + Send + Sync + 'static,
) -> Result<Client, ClientError> {
    let mut config = Search::new(kubeconfig).config().await?;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    // Each call has its deadline in `call`. A deadline of the connection would also end those that wait for the next call,
    // and Coffer asks about once a minute.
    config.read_timeout = None;
    config.write_timeout = None;
    // Who asks knows its deadline, and whether to ask again.
    config.default_retry = false;
    let agent = format!("coffer/{} (linux/{})", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
    let url = config.cluster_url.to_string().trim_end_matches('/').to_owned();
    let unusable = |source: Error| ClientError::Unusable { url: url.clone(), source };
    let agent = HeaderValue::from_str(&agent).map_err(|error| unusable(error.into()))?;
    config.headers.push((USER_AGENT, agent));
    let http = kube::Client::try_from(config).map_err(|error| unusable(error.into()))?;
    Ok(Client { http, url: url.into(), counter: Arc::new(counter) })
}

/// A place that may say where the API server is.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// A file of `--kubeconfig`.
    Flag(PathBuf),
    /// The files of `KUBECONFIG`, which are merged.
    Variable(Vec<PathBuf>),
    /// The service account of the pod.
    Cluster,
    /// `~/.kube/config`.
    Home(PathBuf),
}

/// The places in order, and what was found so far.
struct Search {
    places: Vec<Place>,
    looked: String,
    source: Option<Error>,
}

impl Search {
    fn new(kubeconfig: Option<&Path>) -> Self {
        let variable = std::env::var_os("KUBECONFIG").map(|list| std::env::split_paths(&list).collect());
        let in_cluster = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
        Self::of(kubeconfig, variable.unwrap_or_default(), in_cluster, std::env::home_dir())
    }

    fn of(flag: Option<&Path>, variable: Vec<PathBuf>, in_cluster: bool, home: Option<PathBuf>) -> Self {
        let variable: Vec<PathBuf> = variable.into_iter().filter(|path| !path.as_os_str().is_empty()).collect();
        let mut search = Self { places: Vec::new(), looked: String::new(), source: None };
        // What somebody named is meant: nothing else is looked at then.
        if let Some(path) = flag {
            search.places.push(Place::Flag(path.to_owned()));
        } else if !variable.is_empty() {
            search.places.push(Place::Variable(variable));
        } else {
            search.note("$KUBECONFIG (not set)");
            match in_cluster {
                true => search.places.push(Place::Cluster),
                false => search.note("the pod's service account (not in a pod: $KUBERNETES_SERVICE_HOST is not set)"),
            }
            search.places.extend(home.map(|home| Place::Home(home.join(".kube/config"))));
        }
        search
    }

    fn note(&mut self, what: &str) {
        let comma = if self.looked.is_empty() { "" } else { ", " };
        // Writing to a string does not fail.
        let _ = write!(self.looked, "{comma}{what}");
    }

    /// The first place that says anything.
    async fn config(mut self) -> Result<Config, ClientError> {
        for place in std::mem::take(&mut self.places) {
            let (name, found) = match place {
                Place::Flag(path) => (format!("{} (--kubeconfig)", path.display()), file(&[path]).await),
                Place::Variable(paths) => {
                    let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
                    (format!("{} ($KUBECONFIG)", names.join(" and ")), file(&paths).await)
                }
                Place::Cluster => ("the pod's service account".to_owned(), Config::incluster().map_err(Found::wrong)),
                Place::Home(path) => (path.display().to_string(), file(&[path]).await),
            };
            match found {
                Ok(config) => return Ok(config),
                Err(Found::Proxy) => return Err(ClientError::Proxy),
                Err(Found::Wrong(source)) => {
                    self.note(&name);
                    self.source = Some(source);
                }
            }
        }
        Err(ClientError::Config { looked: self.looked, source: self.source })
    }
}

/// What else a place may hold.
enum Found {
    Wrong(Error),
    Proxy,
}

impl Found {
    fn wrong(error: impl Into<Error>) -> Self {
        Self::Wrong(error.into())
    }
}

/// Kubeconfigs as one; as `kubectl` does, the first file that says something wins.
async fn file(paths: &[PathBuf]) -> Result<Config, Found> {
    let merged = paths.iter().try_fold(Kubeconfig::default(), |merged, path| -> Result<_, KubeconfigError> {
        merged.merge(Kubeconfig::read_from(path)?)
    });
    let kubeconfig = merged.map_err(unread)?;
    let proxied = |cluster: &kube::config::NamedCluster| {
        cluster.cluster.as_ref().is_some_and(|cluster| cluster.proxy_url.as_ref().is_some_and(|url| !url.is_empty()))
    };
    if kubeconfig.clusters.iter().any(proxied) {
        return Err(Found::Proxy);
    }
    let mut config =
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(Found::wrong)?;
    // The proxies of the environment are for secret stores.
    config.proxy_url = None;
    Ok(config)
}

/// The parser quotes the text around a mistake, and that may be a token.
fn unread(error: KubeconfigError) -> Found {
    let KubeconfigError::Parse(error) = error else { return Found::wrong(error) };
    let place = error.location().map(|at| format!(" (line {}, column {})", at.line(), at.column()));
    Found::wrong(format!("it is no kubeconfig{}", place.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(flag: Option<&str>, variable: &[&str], in_cluster: bool) -> Vec<Place> {
        let variable = variable.iter().map(PathBuf::from).collect();
        Search::of(flag.map(Path::new), variable, in_cluster, Some("/home/u".into())).places
    }

    #[test]
    fn what_is_named_is_the_only_place() {
        assert_eq!(places(Some("f"), &["v"], true), [Place::Flag("f".into())]);
        assert_eq!(places(None, &["v", "", "w"], true), [Place::Variable(vec!["v".into(), "w".into()])]);
    }

    #[test]
    fn else_the_pod_comes_before_the_home_folder() {
        let home = || Place::Home("/home/u/.kube/config".into());
        assert_eq!(places(None, &[""], true), [Place::Cluster, home()]);
        assert_eq!(places(None, &[], false), [home()]);
    }

    #[tokio::test]
    async fn an_error_says_where_it_was_looked() {
        let error = Search::of(None, vec![], false, Some("/nowhere".into())).config().await.unwrap_err();
        let text = error.to_string();
        for part in ["$KUBECONFIG (not set)", "$KUBERNETES_SERVICE_HOST", "/nowhere/.kube/config", "--kubeconfig"] {
            assert!(text.contains(part), "{text}");
        }
        let error = Search::of(Some(Path::new("/nowhere/f")), vec![], true, None).config().await.unwrap_err();
        assert!(error.to_string().contains("/nowhere/f (--kubeconfig)"), "{error}");
        assert!(std::error::Error::source(&error).is_some());
    }

    #[tokio::test]
    async fn a_kubeconfig_that_cannot_be_read_is_not_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k");
        for user in ["{token: canary, token: canary}", "[canary]", "{token: canary"] {
            std::fs::write(&path, format!("users:\n- name: a\n  user: {user}\n")).unwrap();
            let error = connect(Some(&path), |_, _, _| {}).await.err().unwrap();
            let cause = std::error::Error::source(&error).unwrap().to_string();
            assert!(cause.contains("no kubeconfig (line 3") || cause.contains("no kubeconfig (line 4"), "{cause}");
            assert!(!format!("{error:?} {error} {cause}").contains("canary"));
        }
    }

    #[tokio::test]
    async fn a_proxy_is_refused_and_not_passed_by() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k");
        let cluster = "{name: a, cluster: {server: 'http://127.0.0.1:1', proxy-url: 'http://127.0.0.1:2'}}";
        let context = "{name: a, context: {cluster: a, user: a}}";
        let text = format!("clusters: [{cluster}]\nusers: []\ncontexts: [{context}]\ncurrent-context: a\n");
        std::fs::write(&path, text).unwrap();
        assert!(matches!(connect(Some(&path), |_, _, _| {}).await, Err(ClientError::Proxy)));
    }
}
