//! How Coffer finds the API server and how it introduces itself.

use std::path::Path;
use std::time::Duration;

use coffer::kube::classes::Classes;
use coffer::kube::client::connect;

use super::{World, deadline};

#[tokio::test]
async fn it_says_who_it_is_and_counts_every_call() {
    let world = World::new().await;
    world.server.class("shop", "kv").put("azure", &[]);
    let classes = Classes::new(world.client.clone(), &world.tasks);
    classes.read("shop", "kv", Duration::ZERO, deadline()).await.unwrap();
    classes.read("shop", "none", Duration::ZERO, deadline()).await.unwrap_err();
    world.server.go_away().await;
    classes.read("shop", "kv", Duration::ZERO, deadline()).await.unwrap();
    let entries = world.server.entries();
    let agent = format!("coffer/{} (linux/{})", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
    assert!(entries.iter().all(|entry| entry.authorized && entry.user_agent == agent), "{entries:?}");
    let counted = ["200", "404", "error"].map(|code| world.counted(&format!("get secretproviderclasses {code}")));
    assert_eq!(counted, [1, 2, 1]);
}

#[tokio::test]
async fn a_kubeconfig_that_is_not_there_is_named() {
    let error = connect(Some(Path::new("/nowhere/kubeconfig")), |_, _, _| {}).await.err().unwrap();
    assert!(error.to_string().contains("/nowhere/kubeconfig (--kubeconfig)"), "{error}");
}

/// With two sources of cryptography in the tree, rustls would panic here instead of choosing.
#[tokio::test]
async fn https_needs_no_preparation() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    let authority = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem();
    std::fs::write(folder.path().join("ca.pem"), authority).unwrap();
    let cluster = "{name: a, cluster: {server: 'https://127.0.0.1:1', certificate-authority: ca.pem}}";
    let context = "{name: a, context: {cluster: a, user: a}}";
    let text = format!("clusters: [{cluster}]\nusers: []\ncontexts: [{context}]\ncurrent-context: a\n");
    std::fs::write(&path, text).unwrap();
    connect(Some(&path), |_, _, _| {}).await.unwrap();
}
