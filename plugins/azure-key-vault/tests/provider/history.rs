//! Several versions of an object, and objects that may be missing.

use coffer_azure_key_vault::http::Request;
use coffer_azure_key_vault::{FailureKind, mount};

use crate::wire::{Answer, Wire, class, files, is_sign_in, json, mount_with, name_of, request, secret, token};

const VAULT: &str = "https://kv1.vault.azure.net";

/// One page of the versions of a secret: `(id, created, enabled)`, and the link to the next page.
fn page(name: &str, versions: &[(&str, i64, bool)], next: &str) -> Answer {
    let row = |(id, created, enabled): &(&str, i64, bool)| {
        format!(r#"{{"id":"{VAULT}/secrets/{name}/{id}","attributes":{{"enabled":{enabled},"created":{created}}}}}"#)
    };
    let rows: Vec<String> = versions.iter().map(row).collect();
    json(200, &format!(r#"{{"value":[{}],"nextLink":"{next}"}}"#, rows.join(",")))
}

fn is_list(request: &Request) -> bool {
    request.url.contains("/versions?")
}

/// A version of a secret: its value is `<name> <version>`.
fn version(request: &Request) -> Answer {
    let mut segments = request.url.split(['/', '?']).skip(4);
    let (name, version) = (segments.next().unwrap(), segments.next().unwrap());
    json(200, &format!(r#"{{"value":"{name} {version}","id":"{VAULT}/secrets/{name}/{version}"}}"#))
}

/// A vault in which every secret has versions 1 to 4 and the third is disabled.
fn vault(request: &Request) -> Answer {
    if is_list(request) {
        return page(name_of(request), &[("1", 10, true), ("2", 20, true), ("3", 30, false), ("4", 40, true)], "");
    }
    version(request)
}

#[test]
fn the_newest_versions_are_numbered_files_in_a_folder() {
    let parameters = class(&["objectName: a\nobjectType: secret\nobjectAlias: x/A\nobjectVersionHistory: 2"]);
    let outcome = mount_with(parameters, vault).unwrap();
    assert_eq!(files(&outcome), [("x/A/0", "a 4"), ("x/A/1", "a 2")]);
    let ids: Vec<_> = outcome.objects.iter().map(|o| (o.id.as_str(), o.version.as_str())).collect();
    assert_eq!(ids, [("secret/a/0", "4"), ("secret/a/1", "2")]);
}

#[test]
fn exactly_as_many_versions_come_as_the_class_says() {
    for (history, expected) in [(2, 2), (3, 3), (9, 3), (1, 1), (0, 1)] {
        let parameters = class(&[&format!("objectName: a\nobjectType: secret\nobjectVersionHistory: {history}")]);
        assert_eq!(mount_with(parameters, vault).unwrap().files.len(), expected, "{history}");
    }
}

#[test]
fn the_history_starts_at_the_version_that_the_class_names() {
    let of = |start: &str| {
        let lines = format!("objectName: a\nobjectType: secret\nobjectVersionHistory: 9\nobjectVersion: {start}");
        mount_with(class(&[&lines]), vault)
    };
    assert_eq!(files(&of("'2'").unwrap()), [("a/0", "a 2"), ("a/1", "a 1")]);
    assert_eq!(of("latest").unwrap().files.len(), 3);
    for unknown in ["'3'", "gone"] {
        let failure = of(unknown).unwrap_err();
        assert_eq!(failure.kind, FailureKind::NotFound);
        assert!(failure.message.starts_with("secret/a: kv1.vault.azure.net has no enabled version "), "{failure}");
    }
}

#[test]
fn histories_and_single_versions_take_two_batches() {
    let parameters = class(&[
        "objectName: a\nobjectType: secret\nobjectVersionHistory: 2",
        "objectName: b\nobjectType: secret",
        "objectName: c\nobjectType: secret\nobjectVersionHistory: 2",
        "objectName: a\nobjectType: secret\nobjectVersion: '4'\nobjectAlias: newest",
        "objectName: a\nobjectType: secret\nobjectVersionHistory: 3\nobjectAlias: more",
    ]);
    let wire = Wire::new(|request, _| match () {
        () if is_sign_in(request) => token("t-1"),
        () if request.url.contains("/b/") => secret(request),
        () => vault(request),
    });
    let outcome = mount(&request(parameters), &wire).unwrap();
    let batches = wire.batches();
    assert_eq!(batches.len(), 3);
    assert_eq!(
        batches[1],
        [
            "GET https://kv1.vault.azure.net/secrets/a/versions?api-version=7.4",
            "GET https://kv1.vault.azure.net/secrets/c/versions?api-version=7.4",
            "GET https://kv1.vault.azure.net/secrets/b/?api-version=7.4",
            "GET https://kv1.vault.azure.net/secrets/a/4?api-version=7.4",
        ]
    );
    assert_eq!(batches[2].len(), 4, "{batches:?}");
    let paths: Vec<_> = outcome.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["a/0", "a/1", "b", "c/0", "c/1", "newest", "more/0", "more/1", "more/2"]);
}

#[test]
fn pages_are_read_to_the_last() {
    let parameters = class(&["objectName: a\nobjectType: secret\nobjectVersionHistory: 9"]);
    let wire = Wire::new(|request, _| match () {
        () if is_sign_in(request) => token("t-1"),
        () if request.url.ends_with("skip=1") => {
            page("a", &[("2", 20, true)], "https://kv1.vault.azure.net:443/secrets/a/versions?api-version=7.4&skip=2")
        }
        () if request.url.ends_with("skip=2") => page("a", &[("1", 10, true)], ""),
        () if is_list(request) => {
            page("a", &[("3", 5, true)], &format!("{VAULT}/secrets/a/versions?api-version=7.4&skip=1"))
        }
        () => version(request),
    });
    let outcome = mount(&request(parameters), &wire).unwrap();
    assert_eq!(files(&outcome), [("a/0", "a 2"), ("a/1", "a 1"), ("a/2", "a 3")]);
    assert_eq!(wire.batches().len(), 5);
}

#[test]
fn the_token_goes_to_no_place_that_a_list_names() {
    for link in ["https://evil.example/secrets/a/versions?x", "https://kv1.vault.azure.net/secrets/b/versions?x"] {
        let parameters = class(&["objectName: a\nobjectType: secret\nobjectVersionHistory: 2"]);
        let wire = Wire::new(|request, _| match () {
            () if is_sign_in(request) => token("t-1"),
            () if is_list(request) => page("a", &[("1", 10, true)], link),
            () => version(request),
        });
        let failure = mount(&request(parameters), &wire).unwrap_err();
        assert!(failure.message.contains(&format!("goes on at `{link}`, which is another place")), "{failure}");
        assert_eq!(wire.requests().len(), 2);
    }
}

#[test]
fn a_list_without_end_is_given_up() {
    let parameters = class(&["objectName: a\nobjectType: secret\nobjectVersionHistory: 2"]);
    let wire = Wire::new(|request, before| match () {
        () if is_sign_in(request) => token("t-1"),
        () => page("a", &[], &format!("{VAULT}/secrets/a/versions?page={before}")),
    });
    let failure = mount(&request(parameters.clone()), &wire).unwrap_err();
    assert!(failure.message.contains("longer than 100 pages"), "{failure}");
    assert_eq!(wire.requests().len(), 101);
    let failure = mount_with(parameters, |request| page("a", &[], &request.url)).unwrap_err();
    assert!(failure.message.contains("leads back to a page that was read already"), "{failure}");
}

#[test]
fn a_refused_list_names_the_permission_and_stops_nothing_else() {
    let parameters = class(&[
        "objectName: a\nobjectType: secret\nobjectVersionHistory: 2",
        "objectName: b\nobjectType: secret\nobjectVersionHistory: 2",
        "objectName: c\nobjectType: secret",
    ]);
    let failure = mount_with(parameters, |request| match name_of(request) {
        "a" => json(403, r#"{"error":{"code":"Forbidden","innererror":{"code":"ForbiddenByPolicy"}}}"#),
        "b" if is_list(request) => vault(request),
        _ => json(404, r#"{"error":{"code":"SecretNotFound","message":"x"}}"#),
    })
    .unwrap_err();
    let lines: Vec<&str> = failure.message.lines().collect();
    assert!(lines[0].starts_with("secret/a: give the service principal") && lines[0].contains("the permission List"));
    assert!(lines[1].starts_with("secret/b/4: kv1.vault.azure.net has no secret"), "{failure}");
    assert!(lines[2].starts_with("secret/b/2: ") && lines[3].starts_with("secret/c: "), "{failure}");
}

#[test]
fn a_revoked_token_is_renewed_once_for_all_batches() {
    let parameters = class(&["objectName: a\nobjectType: secret\nobjectVersionHistory: 2"]);
    let mut again = request(parameters.clone());
    again.session =
        mount(&again, &Wire::new(|request, _| if is_sign_in(request) { token("t-1") } else { vault(request) }))
            .unwrap()
            .session
            .map(|session| session.state);
    let wire = Wire::new(|request, _| match () {
        () if is_sign_in(request) => token("t-2"),
        () if request.headers.contains(&("authorization", "Bearer t-1".into())) => json(401, ""),
        () => vault(request),
    });
    assert_eq!(mount(&again, &wire).unwrap().files.len(), 2);
    let batches = wire.batches();
    assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1, 2]);
}

/// A vault of secrets with a tag each.
fn names(request: &Request) -> Answer {
    if !request.url.contains("/secrets?") {
        return secret(request);
    }
    let row = |(name, env, enabled): (&str, &str, bool)| {
        format!(r#"{{"id":"{VAULT}/secrets/{name}","attributes":{{"enabled":{enabled}}},"tags":{{"env":"{env}"}}}}"#)
    };
    let all = [
        ("app-a", "prod", true),
        ("app-b", "test", true),
        ("App-c", "prod", true),
        ("app-d", "prod", false),
        ("x", "prod", true),
    ];
    json(200, &format!(r#"{{"value":[{}]}}"#, all.map(row).join(",")))
}

#[test]
fn secrets_can_be_chosen_by_name_and_tags() {
    let chosen = |lines: &str| {
        let outcome = mount_with(class(&[&format!("objectType: secret\n{lines}")]), names).unwrap();
        outcome.files.into_iter().map(|file| file.path).collect::<Vec<_>>()
    };
    assert_eq!(chosen("objectNamePattern: app-*"), ["app-a", "app-b", "App-c"]);
    assert_eq!(chosen("objectTags: {env: prod}"), ["app-a", "App-c", "x"]);
    assert_eq!(
        chosen("objectNamePattern: app-*\nobjectTags: {env: prod}\nobjectAlias: apps"),
        ["apps/app-a", "apps/App-c"]
    );
}

#[test]
fn what_a_pattern_chose_has_the_id_of_its_name_and_takes_two_batches() {
    let parameters = class(&["objectType: secret\nobjectNamePattern: app-*", "objectName: x\nobjectType: secret"]);
    let wire = Wire::new(|request, _| if is_sign_in(request) { token("t-1") } else { names(request) });
    let outcome = mount(&request(parameters), &wire).unwrap();
    let ids: Vec<_> = outcome.objects.iter().map(|object| object.id.as_str()).collect();
    assert_eq!(ids, ["secret/app-a", "secret/app-b", "secret/App-c", "secret/x"]);
    assert_eq!(wire.batches().iter().map(Vec::len).collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn a_pattern_that_chooses_nothing_or_too_much_is_a_failure() {
    let failure = mount_with(class(&["objectType: secret\nobjectNamePattern: none*"]), names).unwrap_err();
    assert_eq!(failure.kind, FailureKind::NotFound);
    assert!(failure.message.starts_with("secret/none*: kv1.vault.azure.net has no enabled secret"), "{failure}");
    let optional = class(&["objectType: secret\nobjectNamePattern: none*\nobjectOptional: true"]);
    assert!(mount_with(optional, names).unwrap().files.is_empty());
    let row = |n: usize| format!(r#"{{"id":"{VAULT}/secrets/s{n}","attributes":{{}}}}"#);
    let rows: Vec<String> = (0..201).map(row).collect();
    let many = |_: &Request| json(200, &format!(r#"{{"value":[{}]}}"#, rows.join(",")));
    let failure = mount_with(class(&["objectType: secret\nobjectNamePattern: '*'"]), many).unwrap_err();
    assert!(failure.message.contains("201 secrets of kv1.vault.azure.net match, and 200 may"), "{failure}");
}

#[test]
fn a_missing_object_that_is_optional_is_left_out_and_remarked() {
    let parameters = class(&[
        "objectName: a\nobjectType: secret\nobjectOptional: true",
        "objectName: b\nobjectType: secret",
        "objectName: c\nobjectType: secret\nobjectOptional: true\nobjectVersionHistory: 2",
    ]);
    let outcome = mount_with(parameters, |request| match name_of(request) {
        "a" => json(404, r#"{"error":{"code":"SecretNotFound"}}"#),
        "c" => page("c", &[], ""),
        _ => secret(request),
    })
    .unwrap();
    assert_eq!(files(&outcome), [("b", "value of b")]);
    assert_eq!(outcome.objects.len(), 1);
    assert_eq!(outcome.remarks.len(), 2);
    assert_eq!(outcome.remarks[0], "secret/a is not in kv1.vault.azure.net; it is optional, so its file is left out");
}

#[test]
fn an_optional_object_that_fails_otherwise_is_a_failure() {
    for status in [403, 500, 400] {
        let parameters = class(&["objectName: a\nobjectType: secret\nobjectOptional: true"]);
        assert!(mount_with(parameters, |_| json(status, "")).is_err(), "{status}");
    }
}

#[test]
fn certificates_of_several_versions_have_files_for_each() {
    let mut parameters = class(&["objectName: a\nobjectType: secret\nobjectVersionHistory: 2"]);
    parameters.insert("writeCertAndKeyInSeparateFiles".into(), "true".into());
    let outcome = mount_with(parameters, |request| {
        if is_list(request) {
            return vault(request);
        }
        json(200, r#"{"value":"","id":"https://h/secrets/a/v","kid":"k","contentType":"application/x-pem-file"}"#)
    })
    .unwrap();
    let paths: Vec<_> = outcome.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["a/0.crt", "a/0.key", "a/0", "a/1.crt", "a/1.key", "a/1"]);
}
