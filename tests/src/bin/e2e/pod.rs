//! Manifests that scenarios differ in by a word or two.

use serde_json::{Value, json};

use super::world::{CLIENT_SECRET, CLIENT_ID, TENANT, VAULT};

/// Where a pod of [`with_volume`] has its volume.
pub(crate) const FOLDER: &str = "/mnt/secrets-store";
/// The Secret of [`credentials`].
const CREDENTIALS: &str = "secrets-store-creds";

/// A pod that does nothing, and ends as soon as it is told to.
pub(crate) fn idle(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 1, "dnsPolicy": "Default",
            "containers": [{"name": "main", "image": "coffer.test/busybox:1", "imagePullPolicy": "Never"}],
        },
    })
}

/// The same with a class's files, fetched by a service principal.
pub(crate) fn with_volume(name: &str, class: &str) -> Value {
    let mut pod = without_secret(name, class);
    if let Some(csi) = pod.pointer_mut("/spec/volumes/0/csi") {
        csi["nodePublishSecretRef"] = json!({"name": CREDENTIALS});
    }
    pod
}

/// The same with nothing to sign in with but the pod's service account.
pub(crate) fn without_secret(name: &str, class: &str) -> Value {
    let mut pod = idle(name);
    if let Some(spec) = pod.pointer_mut("/spec") {
        spec["volumes"] = json!([{"name": "secrets", "csi": {
            "driver": "secrets-store.csi.k8s.io", "readOnly": true,
            "volumeAttributes": {"secretProviderClass": class},
        }}]);
        spec["containers"][0]["volumeMounts"] = json!([{"name": "secrets", "mountPath": FOLDER, "readOnly": true}]);
    }
    pod
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
    let mut class = json!({
        "apiVersion": "secrets-store.csi.x-k8s.io/v1", "kind": "SecretProviderClass",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"provider": "azure", "parameters": {
            "usePodIdentity": "false", "keyvaultName": VAULT, "tenantId": TENANT,
            "objects": format!("array:\n{}", objects.concat()),
        }},
    });
    for (key, value) in parameters {
        class["spec"]["parameters"][*key] = json!(value);
    }
    class
}
