//! Every way to sign in, end to end: what an administrator grants, what a class says, what the services check.

use std::time::Duration;

use coffer_tests::harness::{Answer, Cloud, Fault, Kind, Matcher, Settings, Times};

use super::World;
use super::world::{CLIENT_ID, HOST, LOGIN, MOUNT, TENANT, VAULT, class, furnish};

const ISSUER: &str = "https://oidc.cluster.example";
const SUBJECT: &str = "system:serviceaccount:shop:web";
const EXCHANGE: &str = "api://AzureADTokenExchange";
const BINDING: &str = "api://AKSIdentityBinding";
const HOUR: Duration = Duration::from_secs(3600);
const POD: [&str; 6] = ["--pod-namespace", "shop", "--service-account", "web", "--pod-name", "web-0"];
const EXCHANGED: [&str; 2] = ["--token", "api://AzureADTokenExchange=exchange.jwt"];
const BOUND: [&str; 2] = ["--token", "api://AKSIdentityBinding=binding.jwt"];

/// Of the reference's first example of a cluster.
const PROXY_NAME: &str = "aeaf29ip1hi5q38ebc3u4daum81u0unk52t5bg50j25234fmuj78g.ests.aks";

const RSA: &str = include_str!("../../../plugins/azure-key-vault/tests/vectors/client/rsa.pem");
const RSA_CERTIFICATE: &[u8] = include_bytes!("../../../plugins/azure-key-vault/tests/vectors/client/rsa.crt.der");
const RSA_PUBLIC: &[u8] = include_bytes!("../../../plugins/azure-key-vault/tests/vectors/client/rsa.pub.der");

/// A world whose class has these parameters as well and whose volume names no Secret, and a rule before and after those
/// of the cloud.
async fn world_with(parameters: &[(&str, &str)], before: &str, after: &str) -> World {
    let world = World::new().await;
    set_class(&world, parameters);
    no_secret(&world);
    grant(&world, &world.grant(), before, after);
    world
}

fn set_class(world: &World, parameters: &[(&str, &str)]) {
    let lines: String = parameters.iter().map(|(key, value)| format!("    {key}: \"{value}\"\n")).collect();
    let text = class().replace("    usePodIdentity: \"false\"\n", "");
    world.class(&text.replace("  parameters:\n", &format!("  parameters:\n{lines}")));
}

fn no_secret(world: &World) {
    world.secret("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: nothing\n");
}

fn grant(world: &World, config: &str, before: &str, after: &str) {
    let rule = |rule: &str| if rule.is_empty() { String::new() } else { format!("      - {rule}\n") };
    let config = config.replace("    egress:\n", &format!("    egress:\n{}", rule(before)));
    world.config(&(config + &rule(after)));
}

fn metadata_rule(world: &World, resource: &str) -> String {
    let node = world.emulator.node_address();
    let url = format!("http://169.254.169.254/metadata/identity/oauth2/token?resource={resource}");
    format!("{{rule: 'GET {url}', connect: '{node}'}}")
}

fn proxy_rule(world: &World) -> String {
    let emulator = world.emulator.address();
    format!(
        "{{rule: 'POST https://{LOGIN}/{{tenantID|tenantId}}/oauth2/v2.0/token', when: useAzureTokenProxy, \
         connect: '{emulator}', serverName: {PROXY_NAME}, ca: [ca.pem]}}"
    )
}

fn write_token(world: &World, file: &str, subject: &str, audience: &str, lifetime: Duration) {
    world.write(file, &world.emulator.issuer(ISSUER).sign(subject, audience, lifetime));
}

/// The kinds of the requests that arrived, in order.
fn kinds(world: &World) -> Vec<Kind> {
    world.emulator.entries().into_iter().map(|entry| entry.kind).collect()
}

#[tokio::test]
async fn workload_identity_exchanges_the_token_of_the_service_account() {
    let world = world_with(&[("clientID", CLIENT_ID)], "", "").await;
    world.emulator.tenant(TENANT).app(CLIENT_ID).forget_secrets().federate(ISSUER, SUBJECT, EXCHANGE);
    write_token(&world, "exchange.jwt", SUBJECT, EXCHANGE, HOUR);
    world.mount(&[&POD[..], &EXCHANGED].concat()).await;
    assert_eq!(world.file("DemoSecret"), "MyExampleSecret");
    assert_eq!(kinds(&world), [Kind::Token, Kind::GetSecret]);
}

#[tokio::test]
async fn workload_identity_without_trust_or_time_or_token_says_what_is_missing() {
    let world = world_with(&[("clientID", CLIENT_ID)], "", "").await;
    let app = world.emulator.tenant(TENANT).app(CLIENT_ID);
    let all = [&POD[..], &EXCHANGED].concat();
    write_token(&world, "exchange.jwt", SUBJECT, EXCHANGE, HOUR);
    world.refused(77, &["AADSTS700211", "a federated credential with the issuer", SUBJECT], &all).await;
    app.federate(ISSUER, "system:serviceaccount:shop:another", EXCHANGE);
    world.refused(77, &["AADSTS700213", "give it a federated credential for it", SUBJECT], &all).await;
    write_token(&world, "exchange.jwt", SUBJECT, EXCHANGE, Duration::ZERO);
    world.emulator.log().clear();
    world.refused(77, &["the service account token for audience", EXCHANGE, "expired"], &all).await;
    world.refused(65, &["service account tokens not found", "spec.tokenRequests"], &POD).await;
    write_token(&world, "binding.jwt", SUBJECT, BINDING, HOUR);
    let other = [&POD[..], &BOUND].concat();
    world.refused(65, &["token for audience api://AzureADTokenExchange not found"], &other).await;
    assert_eq!(world.emulator.counters().total(), 0);
}

#[tokio::test]
async fn a_file_that_holds_no_token_is_named() {
    let world = world_with(&[("clientID", CLIENT_ID)], "", "").await;
    world.write("exchange.jwt", "canary");
    world.refused(64, &["the token file exchange.jwt holds no JSON Web Token"], &EXCHANGED).await;
}

#[tokio::test]
async fn identity_binding_goes_through_the_token_proxy_and_everything_else_does_not() {
    let world = World::new().await;
    set_class(&world, &[("clientID", CLIENT_ID), ("useAzureTokenProxy", "True")]);
    no_secret(&world);
    grant(&world, &world.grant(), &proxy_rule(&world), "");
    world.emulator.token_proxy(PROXY_NAME);
    let app = world.emulator.tenant(TENANT).app(CLIENT_ID);
    app.bind(ISSUER, SUBJECT).federate(ISSUER, SUBJECT, EXCHANGE);
    write_token(&world, "binding.jwt", SUBJECT, BINDING, HOUR);
    write_token(&world, "exchange.jwt", SUBJECT, EXCHANGE, HOUR);
    let all = [&POD[..], &BOUND, &EXCHANGED].concat();
    world.mount(&all).await;
    let hosts: Vec<String> = world.emulator.entries().into_iter().map(|entry| entry.host).collect();
    assert_eq!(hosts, [LOGIN, HOST], "the proxy is asked in the name of Entra");

    // The proxy does not take the token for Entra, so this one went to Entra.
    set_class(&world, &[("clientID", CLIENT_ID)]);
    world.mount(&all).await;
}

#[tokio::test]
async fn without_its_rule_identity_binding_reaches_entra_and_is_told_so() {
    let world = world_with(&[("clientID", CLIENT_ID), ("useAzureTokenProxy", "true")], "", "").await;
    world.emulator.tenant(TENANT).app(CLIENT_ID).bind(ISSUER, SUBJECT);
    write_token(&world, "binding.jwt", SUBJECT, BINDING, HOUR);
    let parts = ["AADSTS700211", "no egress rule leads the request to the token proxy"];
    world.refused(77, &parts, &[&POD[..], &BOUND].concat()).await;
}

#[tokio::test]
async fn a_token_proxy_with_another_certificate_gets_no_token() {
    let world = World::new().await;
    set_class(&world, &[("clientID", CLIENT_ID), ("useAzureTokenProxy", "true")]);
    no_secret(&world);
    // Nobody there answers to this name.
    grant(&world, &world.grant().replace("{compileTime", "{requests: 1, compileTime"), &proxy_rule(&world), "");
    write_token(&world, "binding.jwt", SUBJECT, BINDING, HOUR);
    world.refused(69, &[LOGIN], &[&POD[..], &BOUND].concat()).await;
    assert_eq!(world.emulator.counters().total(), 0);
}

#[tokio::test]
async fn the_identity_of_the_node_is_enough() {
    let world = World::new().await;
    set_class(&world, &[("useVMManagedIdentity", "true")]);
    no_secret(&world);
    grant(&world, &world.grant(), "", &metadata_rule(&world, "https://vault.azure.net"));
    let parts = ["the system-assigned identity of the node", "status 400", "Identity not found"];
    world.refused(77, &parts, &[]).await;
    world.emulator.node().system_identity(&world.emulator.tenant(TENANT).app(CLIENT_ID));
    world.emulator.log().clear();
    world.mount(&[]).await;
    assert_eq!(kinds(&world), [Kind::NodeToken, Kind::GetSecret]);
}

#[tokio::test]
async fn a_metadata_service_that_does_not_know_the_node_yet_is_asked_again() {
    let world = World::new().await;
    set_class(&world, &[("useVMManagedIdentity", "true")]);
    no_secret(&world);
    grant(&world, &world.grant(), "", &metadata_rule(&world, "https://vault.azure.net"));
    world.emulator.node().system_identity(&world.emulator.tenant(TENANT).app(CLIENT_ID));
    for status in [404, 410] {
        let fault = Fault::Answer(Answer::empty(status));
        world.emulator.inject(Matcher::kind(Kind::NodeToken), fault, Times::ONCE);
    }
    world.mount(&[]).await;
    assert_eq!(kinds(&world), [Kind::NodeToken, Kind::NodeToken, Kind::NodeToken, Kind::GetSecret]);
}

#[tokio::test]
async fn an_identity_assigned_to_the_node_is_asked_for_by_its_client_id() {
    let world = World::new().await;
    set_class(&world, &[("useVMManagedIdentity", "true"), ("userAssignedIdentityID", CLIENT_ID)]);
    no_secret(&world);
    grant(&world, &world.grant(), "", &metadata_rule(&world, "https://vault.azure.net"));
    let app = world.emulator.tenant(TENANT).app(CLIENT_ID);
    // Not the one that is asked for.
    world.emulator.node().system_identity(&app);
    world.refused(77, &["identity isn't assigned to the node", CLIENT_ID], &[]).await;
    world.emulator.node().assign(&app);
    world.mount(&[]).await;
}

#[tokio::test]
async fn the_rule_of_the_metadata_service_gives_no_token_for_anything_but_vaults() {
    let world = World::new().await;
    set_class(&world, &[("useVMManagedIdentity", "true")]);
    no_secret(&world);
    grant(&world, &world.grant(), "", &metadata_rule(&world, "https://management.azure.com"));
    world.refused(77, &["do not allow the request", "169.254.169.254", "differs in query"], &[]).await;
}

#[tokio::test]
async fn a_namespace_that_may_not_use_the_node_s_identity_is_refused() {
    let world = World::new().await;
    set_class(&world, &[("useVMManagedIdentity", "true")]);
    no_secret(&world);
    let config = format!("nodeIdentity: {{namespaces: [kube-system]}}\n{}", world.grant());
    grant(&world, &config, "", &metadata_rule(&world, "https://vault.azure.net"));
    world.emulator.node().system_identity(&world.emulator.tenant(TENANT).app(CLIENT_ID));
    world.refused(77, &["namespace `shop` may not use", "nodeIdentity.namespaces"], &POD).await;
    assert_eq!(world.emulator.counters().total(), 0);
}

#[tokio::test]
async fn pod_identity_gives_a_pod_what_is_bound_to_it_and_to_no_other() {
    let world = World::new().await;
    set_class(&world, &[("usePodIdentity", "true")]);
    no_secret(&world);
    let node = world.emulator.node_address();
    let rule =
        format!("{{rule: 'GET http://localhost:2579/host/token?resource=https://vault.azure.net', connect: '{node}'}}");
    grant(&world, &world.grant(), "", &rule);
    world.emulator.node().bind_pod("shop", "web-1", &world.emulator.tenant(TENANT).app(CLIENT_ID));
    let parts = ["shop/web-0", "no AzureIdentityBinding selects the pod", "nmi response failed with status code: 404"];
    world.refused(77, &parts, &POD).await;
    world.emulator.log().clear();
    let mut other = POD;
    other[5] = "web-1";
    world.mount(&other).await;
    assert_eq!(kinds(&world), [Kind::PodToken, Kind::GetSecret]);
}

/// A Secret with the client id and the certificate of the vectors.
fn certificate_secret(world: &World, pem: &str) {
    let indented: String = pem.lines().map(|line| format!("    {line}\n")).collect();
    world.secret(&format!(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: creds\nstringData:\n  clientid: <client-id>\n  \
         clientcertificate: |\n{indented}"
    ));
}

#[tokio::test]
async fn a_client_certificate_signs_in_at_entra() {
    let world = World::new().await;
    certificate_secret(&world, RSA);
    let app = world.emulator.tenant(TENANT).app(CLIENT_ID);
    app.forget_secrets();
    let parts = ["AADSTS700027", "upload the certificate of clientcertificate to the application"];
    world.refused(77, &parts, &[]).await;
    app.certificate(RSA_CERTIFICATE, RSA_PUBLIC);
    world.mount(&[]).await;
    assert_eq!(kinds(&world)[1..], [Kind::Token, Kind::GetSecret]);
}

#[tokio::test]
async fn a_certificate_without_its_key_is_refused_before_anything_is_sent() {
    let world = World::new().await;
    certificate_secret(&world, RSA.split_once("-----BEGIN CERT").unwrap().0);
    world.refused(65, &["the key clientcertificate", "has no certificate beside the private key"], &[]).await;
    assert_eq!(world.emulator.counters().total(), 0);
}

/// A cloud that only a granted file describes, with its class and its rules, and nothing for any other cloud.
async fn custom_world(login: &str, tenant: &str, token_path: &str) -> World {
    let cloud = Cloud::custom("AzureStackCloud", login, "vault.hub.example");
    let world = World::with(Settings { clouds: vec![cloud.clone()], ..Settings::default() }).await;
    furnish(&world.emulator, &cloud, tenant);
    let text =
        class().replace("cloudName:", "cloudEnvFileName: /etc/cloud.json\n    cloudName: azurestackcloud\n    #");
    world.class(&text.replace(TENANT, tenant));
    world.write(
        "hub.json",
        &format!(r#"{{"ActiveDirectoryEndpoint":"https://{login}/","keyvaultDNSSuffix":"vault.hub.example"}}"#),
    );
    let address = world.emulator.address();
    let head = world.grant().split("    egress:\n").next().unwrap().to_owned();
    world.config(&format!(
        "{head}    configFiles: {{/etc/cloud.json: hub.json}}\n    egress:\n      \
         - {{rule: 'GET https://{{keyvaultName}}.vault.hub.example/', connect: '{address}', ca: [ca.pem]}}\n      \
         - {{rule: 'POST https://{login}{token_path}', connect: '{address}', ca: [ca.pem]}}\n"
    ));
    world
}

#[tokio::test]
async fn a_custom_cloud_is_used_without_a_word_to_any_other() {
    let tenant = "72f1c1a0-3d0e-4b2f-9c55-1d2f0c9be009";
    let world = custom_world("login.hub.example", tenant, "/{tenantID|tenantId}/oauth2/v2.0/token").await;
    world.mount(&[]).await;
    assert_eq!(world.file("DemoSecret"), "MyExampleSecret");
    let hosts: Vec<String> = world.emulator.entries().into_iter().map(|entry| entry.host).collect();
    assert_eq!(hosts, ["login.hub.example".to_owned(), format!("{VAULT}.vault.hub.example")]);
}

#[tokio::test]
async fn a_custom_cloud_whose_file_is_not_granted_or_lacks_a_key_says_so() {
    let tenant = "72f1c1a0-3d0e-4b2f-9c55-1d2f0c9be009";
    let world = custom_world("login.hub.example", tenant, "/{tenantID|tenantId}/oauth2/v2.0/token").await;
    world.write("hub.json", r#"{"activeDirectoryEndpoint":"https://login.hub.example/"}"#);
    world.refused(65, &["the custom cloud file `/etc/cloud.json` has no keyVaultDNSSuffix"], &[]).await;
    world.config(&world.grant());
    world.refused(65, &["there is no file `/etc/cloud.json`", "`configFiles`"], &[]).await;
    let check = ["check", "class.yaml", "--config", "config.yaml"];
    assert_eq!(world.run(&check, &[]).await.code, Some(0), "only a mount needs the file");
}

#[tokio::test]
async fn ad_fs_signs_in_with_a_secret_and_with_a_certificate() {
    let world = custom_world("adfs.hub.example", "adfs", "/adfs/oauth2/token").await;
    world.mount(&[]).await;
    let cloud = Cloud::custom("AzureStackCloud", "adfs.hub.example", "vault.hub.example");
    let app = world.emulator.tenant_in(&cloud, "adfs").app(CLIENT_ID);
    app.forget_secrets().certificate(RSA_CERTIFICATE, RSA_PUBLIC);
    world.refused(77, &["to the tenant adfs", "AD FS answers with status 401"], &[]).await;
    certificate_secret(&world, RSA);
    world.run(&["mount", "class.yaml", "secret.yaml", "again", "--config", "config.yaml"], &[]).await;
    let paths: Vec<String> = world.emulator.entries().into_iter().map(|entry| entry.path).collect();
    assert!(paths.iter().filter(|path| *path == "/adfs/oauth2/token").count() == 3, "{paths:?}");
    assert_eq!(world.run(&MOUNT, &[]).await.code, Some(0));
}

#[tokio::test]
async fn whoever_is_asked_learns_the_version_of_the_provider_and_what_the_administrator_adds() {
    const AGENT: &str = concat!("csi-secrets-store/", env!("CARGO_PKG_VERSION"), " coffer-azure-key-vault");
    let world = World::new().await;
    world.mount(&[]).await;
    set_class(&world, &[("useVMManagedIdentity", "true"), ("userAgentSuffix", "of-the-class")]);
    no_secret(&world);
    world.emulator.node().system_identity(&world.emulator.tenant(TENANT).app(CLIENT_ID));
    let config = world.grant().replace("    limits:", "    userAgentSuffix: contoso/1 (east)\n    limits:");
    grant(&world, &config, "", &metadata_rule(&world, "https://vault.azure.net"));
    world.mount(&[]).await;
    let agents: Vec<_> = world.emulator.entries().into_iter().map(|entry| (entry.kind, entry.user_agent)).collect();
    let with_suffix = format!("{AGENT} contoso/1 (east)");
    assert_eq!(
        agents,
        [
            (Kind::Token, AGENT.to_owned()),
            (Kind::GetSecret, AGENT.to_owned()),
            (Kind::NodeToken, with_suffix.clone()),
            (Kind::GetSecret, with_suffix),
        ]
    );
}
