//! Parts of a JSON secret as files of their own.

use coffer_azure_key_vault::FailureKind;
use coffer_azure_key_vault::http::Request;

use crate::wire::{Answer, class, files, json, mount_with};

const CLASS: &str = "objectName: db\nobjectType: secret\nfilePermission: 0440\njmesPath:\n  - path: login.user\n    objectAlias: user\n  - path: login.password\n    objectAlias: folder/password\n    filePermission: 0400";

fn database(_: &Request) -> Answer {
    json(200, r#"{"value":"{\"login\":{\"user\":\"root\",\"password\":\"hunter2\"}}","id":"https://h/secrets/db/v"}"#)
}

#[test]
fn parts_stand_beside_the_whole_and_may_have_a_permission_of_their_own() {
    let outcome = mount_with(class(&[CLASS]), database).unwrap();
    let whole = r#"{"login":{"user":"root","password":"hunter2"}}"#;
    assert_eq!(files(&outcome), [("db", whole), ("user", "root"), ("folder/password", "hunter2")]);
    assert_eq!(outcome.files.iter().map(|file| file.mode).collect::<Vec<_>>(), [Some(0o440), Some(0o440), Some(0o400)]);
    assert_eq!(outcome.objects.len(), 1);
}

#[test]
fn a_part_that_is_not_there_fails_the_object_without_showing_it() {
    for (value, part) in
        [("hunter2", "is not JSON"), (r#"{\"password\":\"hunter2\"}"#, "path `login.user` of jmesPath finds nothing")]
    {
        let body = format!(r#"{{"value":"{value}","id":"https://h/secrets/db/v"}}"#);
        let failure = mount_with(class(&[CLASS]), |_| json(200, &body)).unwrap_err();
        assert_eq!(failure.kind, FailureKind::InvalidRequest);
        assert!(failure.message.starts_with("secret/db: ") && failure.message.contains(part), "{failure}");
        assert!(!failure.message.contains("hunter2"), "{failure}");
    }
}

#[test]
fn a_part_cannot_be_a_folder_of_another() {
    let lines = "objectName: a\nobjectType: secret\njmesPath: [{path: x, objectAlias: a/b}]";
    let failure = mount_with(class(&[lines]), database).unwrap_err();
    assert!(failure.message.contains("secret/a is to become the file `a`, but secret/a needs a folder"), "{failure}");
}
