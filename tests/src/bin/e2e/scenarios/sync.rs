//! A class's files become a Kubernetes Secret, which the same pod reads as an environment variable.

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use serde_json::json;

use crate::cluster::{PATIENCE, until};
use crate::pod;
use crate::world::World;

const NAME: &str = "sync";

pub(crate) async fn run(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    world.stage(NAME, "before").await?;
    let mut class = pod::class(NAME, "secrets", &[NAME], &[]);
    let wanted = json!([{
        "secretName": "app", "type": "Opaque", "labels": {"team": "web"},
        "data": [{"objectName": NAME, "key": "password"}],
    }]);
    class
        .get_mut("spec")
        .and_then(|spec| spec.as_object_mut())
        .context("no spec")?
        .insert("secretObjects".into(), wanted);
    cluster.apply(&class.to_string()).await?;

    let mut web = pod::with_volume("web", "secrets");
    let env = json!([{"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "app", "key": "password"}}}]);
    let main = web.pointer_mut("/spec/containers/0").and_then(|main| main.as_object_mut()).context("no container")?;
    main.insert("env".into(), env);
    cluster.create(NAME, web).await?;
    let waited = cluster.running(NAME, "web").await?;
    world
        .figures
        .tell("creation to Running of a pod that reads the Secret as env", format!("{} ms", waited.as_millis()));
    let told = cluster.exec(NAME, "web", &["sh", "-c", "echo $PASSWORD"]).await?;
    anyhow::ensure!(told.trim() == "before", "the variable is {told:?}");

    let secrets: Api<Secret> = cluster.api(NAME);
    is_secret(&secrets, "before").await?;
    world.vault.secret(NAME).set("after");
    is_secret(&secrets, "after").await?;

    cluster.delete_pods(NAME).await?;
    // Its owner was the pod, so the cluster's garbage collector takes it.
    until("that the Secret goes with its last owner", PATIENCE, async || Ok(secrets.get_opt("app").await?.is_none()))
        .await
}

async fn is_secret(secrets: &Api<Secret>, value: &str) -> Result<()> {
    let what = format!("{:?} in the Secret, which is {value:?} in base64", STANDARD.encode(value));
    until(&what, PATIENCE, async || {
        let data = secrets.get_opt("app").await?.and_then(|secret| secret.data).unwrap_or_default();
        Ok(data.get("password").is_some_and(|found| found.0 == value.as_bytes()))
    })
    .await
}
