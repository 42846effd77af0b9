//! What an identity service answers, and the certificate that a service principal signs in with.

use coffer_azure_key_vault::Secret;

use crate::promises::check_hosts;
use crate::wire::{VAULT, body, class, is_sign_in, mount_request, request, token};

const SECRET: &str = r#"{"value":"x","id":"https://h/secrets/a/v"}"#;

/// The first byte of the input chooses the status, the rest is the answer of a token endpoint, of the metadata service
/// and of pod identity's NMI.
pub fn grant(input: &[u8]) {
    let Some((first, answer)) = input.split_first() else { return };
    let status = if *first == b'-' { 400 } else { 200 };
    for mode in ["", "useVMManagedIdentity", "usePodIdentity"] {
        let mut parameters = class(&["objectName: a\nobjectType: secret"]);
        if !mode.is_empty() {
            parameters.insert(mode.into(), "true".into());
        }
        let mut request = request(parameters);
        (request.pod.name, request.pod.namespace) = ("p".into(), "n".into());
        let mounted = mount_request(&request, |request, _| {
            if request.url.starts_with(VAULT) { body(200, SECRET) } else { body(status, answer) }
        });
        for request in mounted.requests.iter().filter(|request| request.url.starts_with(VAULT)) {
            let header = request.headers.iter().find(|(name, _)| *name == "authorization");
            let (_, value) = header.expect("a vault is asked with a token");
            let token = value.strip_prefix("Bearer ").expect("it is a bearer token");
            assert!(!token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()), "{token:?}");
        }
        if mode.is_empty() {
            check_hosts(&mounted);
        }
    }
}

/// The input is the certificate of a service principal, with its key.
pub fn certificate(input: &[u8]) {
    let mut request = request(class(&["objectName: a\nobjectType: secret"]));
    request.secrets.remove("clientsecret");
    request.secrets.insert("clientcertificate".into(), Secret::new(input.to_vec()));
    let mounted = mount_request(&request, |request, _| if is_sign_in(request) { token() } else { body(200, SECRET) });
    check_hosts(&mounted);
    let Some(sign_in) = mounted.requests.first() else {
        let failure = mounted.result.expect_err("without a sign-in there is no file");
        // No line of the input that is as long as one of a key may be in the message.
        let lines = input.split(|byte| *byte == b'\n').filter(|line| line.len() > 60);
        let mut lines = lines.filter_map(|line| std::str::from_utf8(line).ok()).filter(|line| !line.contains("-----"));
        assert!(lines.all(|line| !failure.message.contains(line)), "{failure}");
        return;
    };
    let form = String::from_utf8(sign_in.body.clone()).expect("a form is text");
    let assertion = form.split('&').find_map(|pair| pair.strip_prefix("client_assertion=")).expect("it is signed");
    assert_eq!(assertion.split('.').count(), 3, "{assertion}");
}
