//! The plugins of the node, loaded in the background.
//!
//! A publish that needs one waits for it within its own deadline. One that could not be loaded is tried again, less and
//! less often, and when somebody needs it: the file may be there by now. `pipeline` is the caller.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};

use super::Error;
use crate::app::{self, App, Plugin};
use crate::config::Grant;
use crate::tasks::Tasks;

/// The least time between two tries to load a plugin.
const PAUSE: Duration = Duration::from_secs(10);
/// The longest time between two tries that nobody asked for.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// How far a plugin is.
#[derive(Clone)]
pub enum State {
    /// On its way.
    Loading,
    /// Callable.
    Ready(Arc<Plugin>),
    /// It could not be loaded.
    Broken {
        /// Why not.
        error: Arc<app::Error>,
        /// When that was.
        since: Instant,
    },
}

/// All plugins that the configuration names.
pub struct Plugins {
    app: Arc<App>,
    plugins: BTreeMap<String, Loading>,
    tasks: Tasks,
}

struct Loading {
    state: watch::Sender<State>,
    /// Somebody needs it.
    needed: Notify,
}

impl Plugins {
    /// Starts to load all of them.
    #[must_use]
    pub fn start(app: Arc<App>, tasks: Tasks) -> Arc<Self> {
        let names = app.config().providers.keys().cloned();
        let loading = || Loading { state: watch::Sender::new(State::Loading), needed: Notify::new() };
        let plugins = names.map(|name| (name, loading())).collect();
        let this = Arc::new(Self { app, plugins, tasks });
        for name in this.plugins.keys() {
            let (this, name, stopping) = (this.clone(), name.clone(), this.tasks.stopping());
            let tasks = this.tasks.clone();
            tasks.spawn("load plugin", async move {
                tokio::select! {
                    () = this.load(&name) => {}
                    () = stopping.cancelled() => {}
                }
            });
        }
        this
    }

    /// How far a plugin is, now and later.
    #[must_use]
    pub fn watch(&self, provider: &str) -> Option<watch::Receiver<State>> {
        self.plugins.get(provider).map(|plugin| plugin.state.subscribe())
    }

    /// The plugin, as soon as it is there.
    ///
    /// # Errors
    ///
    /// [`Error::Plugin`] when it cannot be loaded, [`Error::PluginLoading`] when the time is up or the program ends.
    pub async fn get(&self, provider: &str, deadline: Instant) -> Result<Arc<Plugin>, Error> {
        let loading = || Error::PluginLoading { provider: provider.to_owned() };
        let plugin = self.plugins.get(provider).ok_or_else(loading)?;
        let is_tried_again = plugin.state.send_if_modified(|state| match state {
            State::Broken { since, .. } if since.elapsed() >= PAUSE => {
                *state = State::Loading;
                true
            }
            _ => false,
        });
        if is_tried_again {
            plugin.needed.notify_one();
        }
        let mut state = plugin.state.subscribe();
        let stopping = self.tasks.stopping();
        let loaded = tokio::select! {
            loaded = timeout_at(deadline, state.wait_for(|state| !matches!(state, State::Loading))) => loaded,
            () = stopping.cancelled() => return Err(loading()),
        };
        match loaded.map_err(|_| loading())?.map_err(|_| loading())?.clone() {
            State::Ready(plugin) => Ok(plugin),
            State::Broken { error, .. } => Err(Error::Plugin { provider: provider.to_owned(), source: error }),
            State::Loading => Err(loading()),
        }
    }

    /// Tries until it works.
    async fn load(&self, provider: &str) {
        let Some(plugin) = self.plugins.get(provider) else { return };
        let Some(grant) = self.app.config().providers.get(provider) else { return };
        let mut pause = PAUSE;
        loop {
            let state = self.try_load(provider, grant).await;
            let is_ready = matches!(state, State::Ready(_));
            plugin.state.send_replace(state);
            if is_ready {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                () = plugin.needed.notified() => pause = PAUSE,
            }
        }
    }

    async fn try_load(&self, provider: &str, grant: &Grant) -> State {
        match self.app.load(provider, grant).await {
            Ok(plugin) => {
                tracing::info!(provider, digest = %plugin.ready.digest(), "plugin loaded");
                State::Ready(Arc::new(plugin))
            }
            Err(error) => {
                let error = Arc::new(error);
                let source = Error::Plugin { provider: provider.to_owned(), source: error.clone() };
                tracing::error!(provider, reason = source.reason(), "{}", source.text());
                State::Broken { error, since: Instant::now() }
            }
        }
    }
}
