//! What the objects of a class become, all of them fetched at once.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use coffer_tests::harness::vault::{CertificateBundle, Jwk, Options};
use coffer_tests::harness::{Fault, Gate, Kind, Matcher, Times};
use tokio::time::timeout;

use super::World;
use super::world::{HOST, class_of};

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
