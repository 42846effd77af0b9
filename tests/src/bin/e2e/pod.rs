//! Manifests that scenarios differ in by a word or two.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::world::{CLIENT_ID, CLIENT_SECRET, TENANT, VAULT};

/// Where a pod of [`with_volume`] has its volume.
pub(crate) const FOLDER: &str = "/mnt/secrets-store";
/// The Secret of [`credentials`].
const CREDENTIALS: &str = "secrets-store-creds";

/// A pod that does nothing, and ends as soon as it is told to.
pub(crate) fn idle(name: &str) -> Value {
    pod(name, "default", json!([]), json!([]))
}

/// The same with a class's files, fetched by a service principal.
pub(crate) fn with_volume(name: &str, class: &str) -> Value {
    mounting(
        name,
        "default",
        json!({
            "driver": "secrets-store.csi.k8s.io", "readOnly": true, "volumeAttributes": {"secretProviderClass": class},
            "nodePublishSecretRef": {"name": CREDENTIALS},
        }),
    )
}

/// The same with nothing to sign in with but the pod's service account.
pub(crate) fn without_secret(name: &str, class: &str, account: &str) -> Value {
    mounting(
        name,
        account,
        json!({
            "driver": "secrets-store.csi.k8s.io", "readOnly": true, "volumeAttributes": {"secretProviderClass": class},
        }),
    )
}

fn mounting(name: &str, account: &str, csi: Value) -> Value {
    let mount = json!([{"name": "secrets", "mountPath": FOLDER, "readOnly": true}]);
    pod(name, account, json!([{"name": "secrets", "csi": csi}]), mount)
}

fn pod(name: &str, account: &str, volumes: Value, mounts: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 1, "dnsPolicy": "Default", "serviceAccountName": account,
            "containers": [{
                "name": "main", "image": "coffer.test/busybox:1", "imagePullPolicy": "Never", "volumeMounts": mounts,
            }],
            "volumes": volumes,
        },
    })
}

/// The service principal, as the walk-through has it.
pub(crate) fn credentials(namespace: &str) -> String {
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {
            "name": CREDENTIALS, "namespace": namespace, "labels": {"secrets-store.csi.k8s.io/used": "true"},
        },
        "stringData": {"clientid": CLIENT_ID, "clientsecret": CLIENT_SECRET},
    })
    .to_string()
}

/// A class with secrets of the vault, and further parameters.
pub(crate) fn class(namespace: &str, name: &str, secrets: &[&str], parameters: &[(&str, &str)]) -> Value {
    let objects: Vec<String> =
        secrets.iter().map(|secret| format!("  - |\n    objectName: {secret}\n    objectType: secret\n")).collect();
    let objects = format!("array:\n{}", objects.concat());
    let own =
        [("usePodIdentity", "false"), ("keyvaultName", VAULT), ("tenantId", TENANT), ("objects", objects.as_str())];
    let parameters: BTreeMap<_, _> = own.iter().chain(parameters).copied().collect();
    json!({
        "apiVersion": "secrets-store.csi.x-k8s.io/v1", "kind": "SecretProviderClass",
        "metadata": {"name": name, "namespace": namespace}, "spec": {"provider": "azure", "parameters": parameters},
    })
}
