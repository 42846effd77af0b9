//! What the objects of a class become, all of them fetched at once.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coffer_tests::harness::vault::{CertificateBundle, Jwk, NextLink, Options};
use coffer_tests::harness::{Cloud, Fault, Gate, Kind, Matcher, Times};
use tokio::time::timeout;

use super::World;
use super::world::{CLIENT_ID, HOST, TENANT, class, class_of, list};

/// Six files of six requests.
const OBJECTS: [&str; 6] = [
    "objectName: DemoSecret\nobjectType: secret\nobjectVersion: 00000000000000000000000000000001",
    "objectName: other\nobjectType: secret\nobjectAlias: folder/in/folder/current\nfilePermission: 0400",
    "objectName: encoded\nobjectType: secret\nobjectEncoding: base64",
    "objectName: rsa\nobjectType: key",
    "objectName: ec\nobjectType: key\nobjectAlias: ec.pem",
    "objectName: web\nobjectType: cert",
];

#[tokio::test]
async fn secrets_keys_and_certificates_come_with_one_token_and_all_at_the_same_time() {
    let world = World::new().await;
    world.class(&class_of(&OBJECTS));
    let first = Options::new().version("00000000000000000000000000000001");
    world.vault.secret("DemoSecret").set_with("canary one", first);
    world.vault.secret("DemoSecret").set("canary that is newer");
    world.vault.secret("other").set("canary two");
    world.vault.secret("encoded").set("Y2FuYXJ5AP8=");
    world.vault.key("rsa").set(Jwk::rsa());
    world.vault.key("ec").set(Jwk::p256().unwrap());
    world.vault.certificate("web").set(CertificateBundle::self_signed("web.example").unwrap());

    // The vault answers only when all six requests are there.
    let gate = Gate::new();
    world.emulator.inject(Matcher::any().host(HOST), Fault::Hold(gate.clone()), Times::Always);
    let together = async {
        timeout(Duration::from_secs(60), gate.arrived(6)).await.expect("the requests do not come together");
        gate.open();
    };
    let (run, ()) = tokio::join!(world.mount(&["--output", "json"]), together);

    assert_eq!(world.emulator.counters().of(Kind::Token), 1);
    assert_eq!(world.emulator.counters().total(), 7);
    assert_eq!(world.file("DemoSecret"), "canary one");
    assert_eq!(world.file("folder/in/folder/current"), "canary two");
    assert_eq!(std::fs::read(world.path("target/encoded")).unwrap(), b"canary\x00\xff");
    for (name, label) in [("rsa", "PUBLIC KEY"), ("ec.pem", "PUBLIC KEY"), ("web", "CERTIFICATE")] {
        let pem = world.file(name);
        assert!(pem.starts_with(&format!("-----BEGIN {label}-----\n")), "{name} is {pem}");
        assert!(pem.trim_end().ends_with(&format!("-----END {label}-----")), "{name} is {pem}");
    }
    let mode = |name: &str| std::fs::metadata(world.path("target").join(name)).unwrap().mode() & 0o7777;
    assert_eq!((mode("folder/in/folder/current"), mode("DemoSecret")), (0o400, 0o644));
    let report = run.json();
    let file = |path: &str| report["files"].as_array().unwrap().iter().find(|file| file["path"] == path).cloned();
    assert_eq!(file("DemoSecret").unwrap()["version"], "00000000000000000000000000000001");
    assert_eq!(file("folder/in/folder/current").unwrap()["mode"], "0400");
}

#[tokio::test]
async fn a_file_that_the_class_no_longer_names_goes_and_its_folder_too() {
    let world = World::new().await;
    world.vault.secret("other").set("canary");
    world.class(&class_of(&[OBJECTS[1], "objectName: DemoSecret\nobjectType: secret"]));
    world.mount(&[]).await;
    world.class(&class_of(&["objectName: DemoSecret\nobjectType: secret"]));
    let run = world.mount(&["--output", "json"]).await;
    assert_eq!(run.json()["change"]["removed"], 1, "{run:#?}");
    assert!(!world.path("target/folder").exists());
}

/// The class with one more parameter.
fn with(class: &str, parameter: &str, value: &str) -> String {
    class.replace("    tenantId:", &format!("    {parameter}: \"{value}\"\n    tenantId:"))
}

/// A certificate with its private key as Key Vault exports it: PFX in base64, made by `openssl` with these options.
/// Besides what `openssl` reads out of it: the certificate, and the key.
fn pfx(folder: &std::path::Path, options: &str) -> (CertificateBundle, String, String) {
    let openssl = |arguments: &str| {
        let run = std::process::Command::new("openssl").args(arguments.split_whitespace()).current_dir(folder).output();
        let run = run.expect("this test needs the program openssl, version 3");
        assert!(run.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&run.stderr));
        run.stdout
    };
    openssl("genpkey -algorithm rsa -pkeyopt rsa_keygen_bits:2048 -out key.pem");
    openssl("req -x509 -new -key key.pem -subj /CN=web.example -days 9 -out certificate.pem");
    let file = openssl(&format!("pkcs12 -export -inkey key.pem -in certificate.pem -passout pass: {options}"));
    let mut bundle = CertificateBundle::self_signed("web.example").unwrap();
    bundle.exported = STANDARD.encode(file);
    bundle.content_type = "application/x-pkcs12".to_owned();
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    (bundle, read("certificate.pem"), read("key.pem"))
}

#[tokio::test]
async fn a_certificate_in_pfx_form_becomes_pem_in_one_file_or_three() {
    let world = World::new().await;
    for options in ["", "-legacy"] {
        let (bundle, certificate, key) = pfx(&world.path("."), options);
        world.vault.certificate("web").set(bundle);
        let class = class_of(&["objectName: web\nobjectType: secret"]);
        world.class(&class);
        world.mount(&[]).await;
        assert_eq!(world.file("web"), format!("{key}{certificate}"), "{options}");
        world.class(&with(&class, "writeCertAndKeyInSeparateFiles", "true"));
        world.mount(&[]).await;
        assert_eq!((world.file("web.crt"), world.file("web.key")), (certificate, key), "{options}");
    }
}

#[tokio::test]
async fn a_pfx_cannot_use_up_the_processor() {
    let world = World::new().await;
    world.class(&class_of(&["objectName: web\nobjectType: secret"]));
    // As much work as a file may ask for, and a little more.
    world.vault.certificate("web").set(pfx(&world.path("."), "-iter 239000").0);
    world.mount(&[]).await;
    world.vault.certificate("web").set(pfx(&world.path("."), "-iter 241000").0);
    let _ = std::fs::remove_dir_all(world.path("target"));
    world.refused(65, &["secret/web: its PFX asks for too much work"], &[]).await;
}

/// A secret with this many versions, each a second newer than the one before; the values are `canary <number>`.
fn history(world: &World, name: &str, versions: i64) {
    for number in 1..=versions {
        let options = Options::new().version(&format!("{number:032}")).created(1_700_000_000 + number);
        world.vault.secret(name).set_with(format!("canary {number}"), options);
    }
}

#[tokio::test]
async fn versions_come_from_all_pages_of_their_list_in_two_batches_and_one_for_each_further_page() {
    let world = World::new().await;
    // A page of the vault has 25 versions, in the order of their ids: the newest are on the last.
    history(&world, "old", 60);
    history(&world, "young", 3);
    world.vault.secret("young").enable(Some(&format!("{:032}", 2)), false);
    world.class(&class_of(&[
        "objectName: old\nobjectType: secret\nobjectVersionHistory: 3",
        "objectName: young\nobjectType: secret\nobjectVersionHistory: 3\nobjectAlias: of/young",
        "objectName: DemoSecret\nobjectType: secret",
    ]));
    world.mount(&[]).await;
    let files = ["old/0", "old/1", "old/2", "of/young/0", "of/young/1"].map(|name| world.file(name));
    assert_eq!(files, ["canary 60", "canary 59", "canary 58", "canary 3", "canary 1"]);
    for absent in ["old/3", "of/young/2"] {
        assert!(!world.path("target").join(absent).exists(), "{absent}");
    }
    // Three pages of one list, one of the other, a secret, five versions, a token.
    assert_eq!(world.emulator.counters().total(), 3 + 1 + 1 + 5 + 1);
}

#[tokio::test]
async fn a_list_that_goes_on_elsewhere_or_for_ever_is_refused_and_gets_no_token() {
    let world = World::new().await;
    history(&world, "old", 3);
    world.class(&class_of(&["objectName: old\nobjectType: secret\nobjectVersionHistory: 3"]));
    let elsewhere = "https://other-kv.vault.azure.net/secrets/old/versions?api-version=7.4";
    for (link, part) in [
        (NextLink::Always(elsewhere.into()), "goes on at `https://other-kv.vault.azure.net/"),
        (NextLink::SamePage, "leads back to a page that was read already"),
    ] {
        world.emulator.log().clear();
        world.vault.next_link(link);
        world.refused(70, &["secret/old: the vault's list", part], &[]).await;
        assert!(world.emulator.log().entries().iter().all(|entry| !entry.host.starts_with("other-kv")));
    }
}

#[tokio::test]
async fn an_optional_secret_may_be_missing_and_comes_when_it_is_there() {
    let world = World::new().await;
    let class =
        ["objectName: DemoSecret\nobjectType: secret", "objectName: later\nobjectType: secret\nobjectOptional: true"];
    world.class(&class_of(&class));
    let run = world.mount(&[]).await;
    assert!(run.stderr.contains("secret/later is not in contoso-kv.vault.azure.net; it is optional"), "{run:#?}");
    assert!(!world.path("target/later").exists());
    world.vault.secret("later").set("canary");
    world.mount(&[]).await;
    assert_eq!(world.file("later"), "canary");
}

#[tokio::test]
async fn parts_of_a_json_secret_are_files_beside_it() {
    let world = World::new().await;
    world.vault.secret("db").set(r#"{"login": {"user": "canary-user", "ports": [1, 2]}}"#);
    world.class(&class_of(&[
        "objectName: db\nobjectType: secret\njmesPath:\n  - path: login.user\n    objectAlias: user\n  \
                             - path: login.ports[-1]\n    objectAlias: x/port\n    filePermission: 0400",
    ]));
    world.mount(&[]).await;
    assert_eq!((world.file("user"), world.file("x/port")), ("canary-user".into(), "2".into()));
    assert!(world.file("db").starts_with("{\"login\""));
}

#[tokio::test]
async fn in_an_outage_of_the_vault_the_other_one_gives_everything() {
    let world = World::new().await;
    let other = world.emulator.tenant_in(&Cloud::public(), TENANT).vault("other-kv");
    other.allow_all(CLIENT_ID).secret("DemoSecret").set("canary of the other");
    let class = with(&class(), "failoverKeyvaultName", "other-kv");
    world.class(&class);
    let rule = |parameter: &str| format!("GET https://{{{parameter}}}.vault.azure.net/");
    let grant = world.grant();
    let own = grant.lines().find(|line| line.contains(&rule("keyvaultName"))).unwrap();
    let both = format!("{own}\n{}", own.replace(&rule("keyvaultName"), &rule("failoverKeyvaultName")));
    world.config(&grant.replace(own, &both));
    world.mount(&[]).await;
    assert_eq!(world.file("DemoSecret"), "MyExampleSecret");
    world.emulator.inject(Matcher::any().host(HOST), Fault::unavailable(None), Times::Always);
    let run = world.mount(&[]).await;
    assert!(run.stderr.contains("everything comes from other-kv.vault.azure.net instead"), "{run:#?}");
    assert_eq!(world.file("DemoSecret"), "canary of the other");
    // Nobody may send anything there whom the administrator does not let. It still is the outage that may pass.
    world.config(&grant);
    world
        .refused(
            69,
            &["has a problem of its own", "in the failover vault secret/DemoSecret: other-kv.vault.azure.net: the egress rules of the grant do not allow"],
            &[],
        )
        .await;
}

#[tokio::test]
async fn secrets_chosen_by_name_and_tags_are_a_folder() {
    let world = World::new().await;
    // More than one page of names.
    for number in 0..30 {
        let options = Options::new().tag("env", if number % 10 == 0 { "prod" } else { "test" });
        world.vault.secret(&format!("app-{number:02}")).set_with(format!("canary {number}"), options);
    }
    world.class(&class_of(&[
        "objectType: secret\nobjectNamePattern: app-*\nobjectTags: {env: prod}\nobjectAlias: apps",
        "objectName: DemoSecret\nobjectType: secret",
    ]));
    world.mount(&[]).await;
    assert_eq!(list(&world.path("target/apps")), ["app-00", "app-10", "app-20"]);
    assert_eq!((world.file("apps/app-10"), world.file("DemoSecret")), ("canary 10".into(), "MyExampleSecret".into()));
    // Two pages of names, four secrets, a token.
    assert_eq!(world.emulator.counters().total(), 2 + 4 + 1);
}
