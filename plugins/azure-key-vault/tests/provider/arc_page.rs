//! The class that the documentation of the Arc extension shows, as it stands there, with the placeholders filled in.

use coffer_azure_key_vault::{ObjectVersion, Parameters, Scope, check, mount};

use crate::wire::{Wire, files, is_sign_in, request, secret, token};

/// `spec.parameters`, as Kubernetes hands them over: the comments of the outer YAML are gone, those of `objects` are not.
fn class() -> Parameters {
    let objects = "array:\n  - |\n    objectName: DemoSecret\n    objectType: secret             # object types: secret, key \
                   or cert\n    objectVersion: \"\"              # [OPTIONAL] object versions, default to latest if empty\n";
    [
        ("usePodIdentity", "false"),
        ("keyvaultName", "kv1"),
        ("cloudName", ""),
        ("objects", objects),
        ("tenantId", "72f988bf-0000-0000-0000-2d7cd011db47"),
        ("csi.storage.k8s.io/pod.name", "busybox-secrets-store-inline"),
        ("csi.storage.k8s.io/pod.namespace", "default"),
        ("csi.storage.k8s.io/ephemeral", "true"),
        ("secretProviderClass", "akvprovider-demo"),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}

#[test]
fn the_class_has_no_mistake() {
    let checked = check(&class()).unwrap();
    assert_eq!(checked.scope, Scope::ServiceAccount);
    assert_eq!(checked.session_key, "service-principal AzurePublicCloud 72f988bf-0000-0000-0000-2d7cd011db47");
}

#[test]
fn the_class_becomes_the_file_that_the_page_prints() {
    let wire = Wire::new(|request, _| if is_sign_in(request) { token("t-1") } else { secret(request) });
    let outcome = mount(&request(class()), &wire).unwrap();
    assert_eq!(files(&outcome), [("DemoSecret", "value of DemoSecret")]);
    assert_eq!(outcome.files[0].mode, None);
    assert_eq!(outcome.objects, [ObjectVersion { id: "secret/DemoSecret".into(), version: "v-DemoSecret".into() }]);
}

#[test]
fn the_class_costs_one_token_request_and_one_read() {
    let wire = Wire::new(|request, _| if is_sign_in(request) { token("t-1") } else { secret(request) });
    mount(&request(class()), &wire).unwrap();
    assert_eq!(
        wire.batches(),
        [
            ["POST https://login.microsoftonline.com/72f988bf-0000-0000-0000-2d7cd011db47/oauth2/v2.0/token"],
            ["GET https://kv1.vault.azure.net/secrets/DemoSecret/?api-version=7.4"],
        ]
    );
}

#[test]
fn national_clouds_have_their_own_hosts() {
    for (cloud, entra, vault) in [
        ("AzureUSGovernmentCloud", "login.microsoftonline.us", "vault.usgovcloudapi.net"),
        ("AzureChinaCloud", "login.chinacloudapi.cn", "vault.azure.cn"),
    ] {
        let mut class = class();
        class.insert("cloudName".into(), cloud.into());
        let wire = Wire::new(|request, _| if is_sign_in(request) { token("t-1") } else { secret(request) });
        mount(&request(class), &wire).unwrap();
        let requests = wire.requests();
        assert!(requests[0].url.starts_with(&format!("https://{entra}/")), "{cloud}");
        assert!(requests[1].url.starts_with(&format!("https://kv1.{vault}/")), "{cloud}");
        let scope = format!("scope=https%3A%2F%2F{vault}%2F.default");
        assert!(requests[0].body.windows(scope.len()).any(|part| part == scope.as_bytes()), "{cloud}");
    }
}
