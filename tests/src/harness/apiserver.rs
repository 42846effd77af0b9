//! A Kubernetes API server as Coffer meets it, over HTTP on loopback: SecretProviderClasses, their pod statuses, CSIDriver,
//! CSINode, events, Secrets, pods, discovery.
//!
//! It checks what the real one checks, so that a write that would fail there fails here too; it keeps uid, generation,
//! resourceVersion and field managers; and it misbehaves on demand. There is no list that it would not answer and no
//! watch that it would: the log tells whether anybody asked.
//!
//! ```no_run
//! # use coffer_tests::harness::apiserver::{ApiServer, Resource, Verb};
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let api = ApiServer::start().await?;
//! api.class("shop", "kv").put("azure", &[("keyvaultName", "kv")]);
//! api.set_csi_node("node-1", &["secrets-store.csi.k8s.io"]);
//! std::fs::write("kubeconfig", api.kubeconfig())?;
//! // … run what is to be tested …
//! api.log().arrived(Verb::Get, Resource::Classes, 1).await;
//! # Ok(())
//! # }
//! ```
#![allow(clippy::indexing_slicing, reason = "a JSON value answers null for what it has not")]

mod checks;
mod faults;
mod fields;
mod log;
mod objects;
mod resource;
mod serve;
mod status;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpSocket;
use tokio::task::JoinHandle;

pub use faults::{Fault, Matcher};
pub use log::{Counters, Entry, Log};
pub use objects::Right;
pub use resource::{GROUP, Resource, Target, Verb};

use serve::Services;

/// Who writes what a test stores by a handle; like a user with `kubectl`.
const USER: &str = "kubectl-edit";
/// How many connections wait to be accepted.
const BACKLOG: u32 = 1024;

/// A running API server; dropping it ends every connection of it.
///
/// At the start the custom resources are defined, and the CSIDriver object is as `deploy/csidriver.yaml` makes it.
pub struct ApiServer {
    address: SocketAddr,
    services: Arc<Services>,
    /// None while it is away.
    task: Mutex<Option<JoinHandle<()>>>,
    /// Bound to the port and never listening: nobody else gets the port while the server is away.
    _reservation: TcpSocket,
}

impl ApiServer {
    /// Starts listening on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// No port can be bound.
    pub async fn start() -> io::Result<Self> {
        let reservation = socket((Ipv4Addr::LOCALHOST, 0).into())?;
        let address = reservation.local_addr()?;
        let services = Arc::new(Services::new(format!("canary-{}", super::answer::random_hex())));
        let server = Self { address, services, task: Mutex::default(), _reservation: reservation };
        server.set_csi_driver(&json!({
            "podInfoOnMount": true, "attachRequired": false, "volumeLifecycleModes": ["Ephemeral"],
            "requiresRepublish": true, "fsGroupPolicy": "File",
            "tokenRequests": [{"audience": "api://AzureADTokenExchange"}],
        }));
        server.come_back()?;
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL for a kubeconfig.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A kubeconfig with the credential that the server wants.
    pub fn kubeconfig(&self) -> String {
        let (server, token) = (self.url(), &self.services.token);
        format!(
            "\
apiVersion: v1
kind: Config
clusters: [{{name: test, cluster: {{server: '{server}'}}}}]
users: [{{name: test, user: {{token: '{token}'}}}}]
contexts: [{{name: test, context: {{cluster: test, user: test}}}}]
current-context: test
"
        )
    }

    /// The credential, to search outputs for: it must be in none.
    pub fn token(&self) -> &str {
        &self.services.token
    }

    /// What happened, and ways to wait for it.
    pub fn log(&self) -> &Log {
        &self.services.log
    }

    /// The requests so far, oldest first.
    pub fn entries(&self) -> Vec<Entry> {
        self.services.log.entries()
    }

    /// The counts so far.
    pub fn counters(&self) -> Counters {
        self.services.log.counters()
    }

    // Objects.

    /// A class, whether it exists or not.
    pub fn class(&self, namespace: &str, name: &str) -> Class<'_> {
        Class { server: self, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// Makes or replaces the CSIDriver object `secrets-store.csi.k8s.io`.
    pub fn set_csi_driver(&self, spec: &Value) {
        self.set(Resource::CsiDrivers, "", "secrets-store.csi.k8s.io", &json!({ "spec": spec }));
    }

    /// Deletes the CSIDriver object.
    pub fn remove_csi_driver(&self) {
        self.remove(Resource::CsiDrivers, "", "secrets-store.csi.k8s.io");
    }

    /// Makes or replaces the CSINode of a node, with these drivers.
    pub fn set_csi_node(&self, node: &str, drivers: &[&str]) {
        let drivers: Vec<Value> =
            drivers.iter().map(|name| json!({"name": name, "nodeID": node, "topologyKeys": null})).collect();
        self.set(Resource::CsiNodes, "", node, &json!({"spec": {"drivers": drivers}}));
    }

    /// Whether the CustomResourceDefinition of a resource is there.
    pub fn define(&self, resource: Resource, defined: bool) {
        self.services.change(|objects| objects.define(resource, defined));
    }

    /// Makes or replaces any object, by the user. `parts` is the object without apiVersion, kind and name.
    ///
    /// # Panics
    /// The API server would refuse it.
    pub fn set(&self, resource: Resource, namespace: &str, name: &str, parts: &Value) {
        self.set_as(USER, resource, namespace, name, parts);
    }

    /// As [`ApiServer::set`], with a field manager: `csi-secrets-store` is the Go driver.
    ///
    /// # Panics
    /// The API server would refuse it.
    #[allow(clippy::expect_used, reason = "a test that stores what no API server stores is wrong")]
    pub fn set_as(&self, manager: &str, resource: Resource, namespace: &str, name: &str, parts: &Value) {
        let version = resource.api_version();
        let (group, version) = version.rsplit_once('/').unwrap_or(("", &version));
        let text = str::to_owned;
        let target = Target {
            verb: Verb::Update,
            resource,
            group: text(group),
            version: text(version),
            namespace: text(namespace),
            name: text(name),
        };
        let mut object = parts.clone();
        object["apiVersion"] = json!(resource.api_version());
        object["kind"] = json!(resource.kind());
        object["metadata"]["name"] = json!(name);
        self.services.change(|objects| objects.put(&target, manager, object)).expect("the object is refused");
    }

    /// Makes or replaces a pod, with the uid that kubelet knows it by.
    pub fn set_pod(&self, namespace: &str, name: &str, uid: &str, owners: &[Value]) {
        let parts = json!({"metadata": {"namespace": namespace, "ownerReferences": owners}, "spec": {}});
        self.set(Resource::Pods, namespace, name, &parts);
        self.services.change(|objects| objects.set_uid(Resource::Pods, namespace, name, uid));
    }

    /// Deletes any object; says whether it was there.
    pub fn remove(&self, resource: Resource, namespace: &str, name: &str) -> bool {
        self.services.change(|objects| objects.delete(resource, namespace, name))
    }

    /// Any object as it is stored, without `metadata.managedFields`.
    pub fn object(&self, resource: Resource, namespace: &str, name: &str) -> Option<Value> {
        self.services.objects().get(resource, namespace, name).cloned()
    }

    /// All objects of a resource.
    pub fn objects(&self, resource: Resource) -> Vec<Value> {
        self.services.objects().all(resource)
    }

    /// The pod status of this name.
    pub fn pod_status(&self, namespace: &str, name: &str) -> Option<Value> {
        self.object(Resource::PodStatuses, namespace, name)
    }

    /// The events, in no order that matters.
    pub fn events(&self) -> Vec<Value> {
        self.objects(Resource::Events)
    }

    /// What garbage collection does when the object with this uid is gone: objects that only it owned go too.
    pub fn collect(&self, uid: &str) {
        self.services.change(|objects| objects.collect(uid));
    }

    /// Waits until the objects satisfy a condition. Give it a deadline of your own.
    pub async fn until(&self, mut condition: impl FnMut(&Self) -> bool) {
        let mut changes = self.services.changed.subscribe();
        // The sender lives as long as `self`, so the wait cannot fail.
        let _ = changes.wait_for(|()| condition(self)).await;
    }

    // Misbehaviour.

    /// Plans a fault.
    pub fn inject(&self, matcher: Matcher, fault: Fault, times: super::Times) {
        self.services.faults.plan(matcher, fault, times);
    }

    /// Forgets the planned faults and the latency; requests that are held or stalled stay so.
    pub fn clear_faults(&self) {
        self.services.faults.clear();
    }

    /// How long each request takes from now on, at least.
    pub fn latency(&self, latency: Duration) {
        self.services.faults.set_latency(latency);
    }

    /// Lets reads with `resourceVersion=0` see everything as it is now, whatever changes, until [`ApiServer::thaw_cache`].
    pub fn freeze_cache(&self) {
        self.services.change(|objects| objects.freeze_cache(true));
    }

    /// Lets every read see what is stored.
    pub fn thaw_cache(&self) {
        self.services.change(|objects| objects.freeze_cache(false));
    }

    /// Allows only what these rules allow, as RBAC does; none allows everything.
    pub fn enforce(&self, rights: Option<Vec<Right>>) {
        self.services.change(|objects| objects.enforce(rights));
    }

    /// Closes all connections and refuses new ones.
    pub async fn go_away(&self) {
        let task = self.task().take();
        if let Some(task) = task {
            task.abort();
            // It can only have been cancelled, which is what is wanted.
            let _ = task.await;
        }
    }

    /// Listens again, on the same port; nothing when it does.
    ///
    /// # Errors
    /// The port cannot be bound.
    pub fn come_back(&self) -> io::Result<()> {
        let mut task = self.task();
        if task.is_none() {
            let listener = socket(self.address)?.listen(BACKLOG)?;
            *task = Some(tokio::spawn(serve::serve(listener, Arc::clone(&self.services))));
        }
        Ok(())
    }

    fn task(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        if let Some(task) = self.task().as_ref() {
            task.abort();
        }
    }
}

fn socket(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// A SecretProviderClass as a user with `kubectl` handles it.
pub struct Class<'a> {
    server: &'a ApiServer,
    namespace: String,
    name: String,
}

impl Class<'_> {
    /// Makes it, or replaces its `spec`; annotations stay.
    pub fn put(&self, provider: &str, parameters: &[(&str, &str)]) {
        let parameters: BTreeMap<&str, &str> = parameters.iter().copied().collect();
        self.put_spec(&json!({"provider": provider, "parameters": parameters}));
    }

    /// As [`Class::put`], with any `spec`.
    pub fn put_spec(&self, spec: &Value) {
        self.edit(|object| object["spec"] = spec.clone());
    }

    /// Sets an annotation, or takes it away.
    pub fn annotate(&self, key: &str, value: Option<&str>) {
        self.edit(|object| match value {
            Some(value) => object["metadata"]["annotations"][key] = json!(value),
            None => {
                if let Some(annotations) = object["metadata"]["annotations"].as_object_mut() {
                    annotations.remove(key);
                }
            }
        });
    }

    /// Changes the object in any way; makes it when it is not there.
    ///
    /// # Panics
    /// The API server would refuse it.
    pub fn edit(&self, change: impl FnOnce(&mut Value)) {
        let mut object = self.object().unwrap_or_else(|| json!({}));
        change(&mut object);
        self.server.set(Resource::Classes, &self.namespace, &self.name, &object);
    }

    /// Deletes it; says whether it was there.
    pub fn delete(&self) -> bool {
        self.server.remove(Resource::Classes, &self.namespace, &self.name)
    }

    /// The object.
    pub fn object(&self) -> Option<Value> {
        self.server.object(Resource::Classes, &self.namespace, &self.name)
    }

    /// `<uid>/<generation>`.
    ///
    /// # Panics
    /// There is no such class.
    #[allow(clippy::expect_used, reason = "a test that asks for the revision of nothing is wrong")]
    pub fn revision(&self) -> String {
        let object = self.object().expect("there is no such class");
        let uid = object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        format!("{uid}/{}", object["metadata"]["generation"])
    }
}
