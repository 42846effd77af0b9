//! What a vault answers, or whoever answers in its place.

use coffer_azure_key_vault::FailureKind;
use coffer_azure_key_vault::http::Response;

use crate::promises::check_hosts;
use crate::wire::{VAULT, body, class, mount_class};

/// The input is the answer to a request for a secret, a key and a certificate.
pub fn bundle(input: &[u8]) {
    let objects = [
        "objectName: s\nobjectType: secret",
        "objectName: k\nobjectType: key",
        "objectName: c\nobjectType: cert",
        "objectName: b\nobjectType: secret\nobjectEncoding: base64",
        "objectName: x\nobjectType: secret\nobjectFormat: pfx\nobjectEncoding: hex",
    ];
    for object in objects {
        let mounted = mount_class(class(&[object]), |_, _| body(200, input));
        check_hosts(&mounted);
        assert!(mounted.size() <= 20 * input.len() + 1_000, "{} bytes of {}", mounted.size(), input.len());
    }
}

/// The input is the pages of a list of versions, a zero byte between them.
pub fn versions(input: &[u8]) {
    list(input, "objectName: h\nobjectType: secret\nobjectVersionHistory: 3", "secrets/h/");
}

/// The input is the pages of a list of names, a zero byte between them.
pub fn names(input: &[u8]) {
    list(input, "objectType: secret\nobjectNamePattern: a*\nobjectAlias: p", "secrets");
}

fn list(input: &[u8], object: &str, below: &str) {
    let pages: Vec<&[u8]> = input.split(|byte| *byte == 0).collect();
    // The token is asked for first.
    let page = |before: usize| pages.get(before.saturating_sub(1) % pages.len()).copied().unwrap_or_default();
    let mounted = mount_class(class(&[object]), |request, before| {
        let path = request.url.split('?').next().unwrap_or_default();
        let is_list = path.ends_with("/versions") || path.ends_with("/secrets");
        body(200, if is_list { page(before) } else { br#"{"value":"x","id":"https://h/secrets/h/v"}"# })
    });
    check_hosts(&mounted);
    // One sign-in, 100 pages, 200 secrets.
    assert!(mounted.requests.len() <= 301, "{} requests", mounted.requests.len());
    for request in mounted.requests.iter().skip(1) {
        assert!(request.url.starts_with(&format!("{VAULT}{below}")), "{} is not in the list", request.url);
    }
}

/// The first line of the input is a status and a challenge, the rest a body.
pub fn refusal(input: &[u8]) {
    let (line, error) = input.split_at(input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len()));
    let Ok(line) = std::str::from_utf8(line) else { return };
    let (status, challenge) = line.split_once(' ').unwrap_or((line, ""));
    let Ok(status) = status.parse::<u16>() else { return };
    let headers = ["www-authenticate", "retry-after", "x-ms-request-id"];
    let headers: Vec<_> = headers.into_iter().map(|name| (name.to_owned(), challenge.to_owned())).collect();
    for object in ["objectName: s\nobjectType: secret", "objectName: k\nobjectType: key\nobjectVersionHistory: 2"] {
        let mounted =
            mount_class(class(&[object]), |_, _| Response { status, headers: headers.clone(), body: error.to_vec() });
        check_hosts(&mounted);
        // Twice at most, and once a new token between.
        assert!(mounted.requests.len() <= 4 || status == 200, "{} requests", mounted.requests.len());
        if let Err(failure) = &mounted.result {
            let throttled = matches!(failure.kind, FailureKind::Throttled { .. });
            assert_eq!(throttled, status == 429, "{failure}");
        } else {
            assert_eq!(status, 200);
        }
    }
}
