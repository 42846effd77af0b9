//! What an author of a class or an administrator wrote, and what the provider itself left behind.

use coffer_azure_key_vault::{FailureKind, Secret, check};

use crate::promises::{check_failure, check_hosts, check_line};
use crate::wire::{self, TOKEN, VAULT, body, class, class_with, mount_class, mount_request, token};

/// Any secret, key or certificate; also a list of versions and of names.
const ANYTHING: &str = r#"{"value":"x","id":"https://h/secrets/a/v","cer":"AA==",
    "key":{"kid":"https://h/keys/a/v","kty":"RSA","n":"u_0","e":"AQAB"}}"#;
const ANY_LIST: &str = r#"{"value":[{"id":"https://h/secrets/a/v","attributes":{"created":1}},
    {"id":"https://h/secrets/b/w","attributes":{"created":2},"tags":{"env":"prod"}}]}"#;

/// The input is the parameter `objects`.
pub fn objects(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match check(&class_with(text)) {
        Ok(checked) => checked.remarks.iter().for_each(|remark| check_line(remark)),
        Err(failure) => {
            assert_eq!(failure.kind, FailureKind::InvalidRequest);
            return check_failure(&failure);
        }
    }
    let mounted = mount_class(class_with(text), |request, _| {
        let path = request.url.split('?').next().unwrap_or_default();
        let is_list = path.ends_with("/versions") || path.ends_with("/secrets");
        body(200, if is_list { ANY_LIST } else { ANYTHING })
    });
    check_hosts(&mounted);
    assert!(!mounted.requests.is_empty(), "a class without mistakes asks for something");
}

/// The input is the file of a custom cloud.
pub fn cloud(input: &[u8]) {
    let mut parameters = class(&["objectName: a\nobjectType: secret"]);
    parameters.insert("cloudName".into(), "AzureStackCloud".into());
    parameters.insert("cloudEnvFileName".into(), "hub.json".into());
    let mut request = wire::request(parameters);
    request.config.insert("hub.json".into(), input.to_vec());
    let mounted =
        mount_request(&request, |request, _| if wire::is_sign_in(request) { token() } else { body(200, ANYTHING) });
    for request in &mounted.requests {
        let rest = request.url.strip_prefix("https://").expect("only https");
        let authority = rest.split('/').next().unwrap_or_default();
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.:".contains(c);
        assert!(!authority.is_empty() && authority.chars().all(plain), "{authority:?} is no host");
    }
}

/// The input is the state that an earlier call left behind, its first line apart.
pub fn session(input: &[u8]) {
    let parameters = class(&["objectName: a\nobjectType: secret"]);
    let mut request = wire::request(parameters);
    let kept =
        mount_request(&request, |request, _| if wire::is_sign_in(request) { token() } else { body(200, ANYTHING) });
    let own = kept.result.ok().and_then(|outcome| outcome.session).expect("a session is kept").state;
    let line = own.split(|byte| *byte == b'\n').next().unwrap_or_default();
    request.session = Some(Secret::new([line, b"\n", input].concat()));
    let mounted =
        mount_request(&request, |request, _| if wire::is_sign_in(request) { token() } else { body(200, ANYTHING) });
    check_hosts(&mounted);
    assert!(mounted.result.is_ok(), "a session that is no use is as none");
    let to_vault = mounted.requests.iter().filter(|request| request.url.starts_with(VAULT));
    for (name, value) in to_vault.flat_map(|request| &request.headers) {
        let own = format!("Bearer {TOKEN}");
        assert!(*name != "authorization" || value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()));
        assert!(*name != "authorization" || mounted.requests.len() == 1 || *value == own, "{value:?}");
    }
}
