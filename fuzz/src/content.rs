//! What somebody uploaded to a vault: keys, certificates and JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use spki::der::{Decode, Encode};
use spki::{SubjectPublicKeyInfoRef, der::pem};

use crate::promises::{blocks, check_der, check_hosts};
use crate::wire::{Mounted, body, class, mount_class};

/// The input is a JSON Web Key without its `kid`.
pub fn jwk(input: &[u8]) {
    let Some(fields) = input.strip_prefix(b"{") else { return };
    let mut bundle = br#"{"key":{"kid":"https://h/keys/k/v","#.to_vec();
    bundle.extend_from_slice(fields);
    bundle.push(b'}');
    let mounted = mount_class(class(&["objectName: k\nobjectType: key"]), |_, _| body(200, bundle.clone()));
    let Some(text) = mounted.text("k") else { return };
    let (label, der) = pem::decode_vec(text.as_bytes()).expect("it is PEM");
    assert_eq!(label, "PUBLIC KEY");
    let key = SubjectPublicKeyInfoRef::from_der(&der).expect("it is a public key");
    assert_eq!(key.to_der().expect("it can be written"), der);
    assert!(text.len() <= 2 * input.len() + 400, "{} bytes of {}", text.len(), input.len());
}

/// The input is a PFX file.
pub fn pfx(input: &[u8]) {
    let value = STANDARD.encode(input);
    let as_sent = mount_certificate(&value, "application/x-pkcs12", "false");
    let ordered = mount_certificate(&value, "application/x-pkcs12", "true");
    assert!(as_sent.result.is_ok() || ordered.result.is_err(), "the order has no part in what can be read");
    let Some(text) = as_sent.text("web") else { return };
    let mut found = blocks(text);
    for (label, der) in &found {
        match *label {
            "PRIVATE KEY" => check_der(der),
            "CERTIFICATE" => {}
            other => panic!("{other} is no part of a PFX"),
        }
    }
    assert!(text.len() <= 20 * input.len() + 1_000, "{} bytes of {}", text.len(), input.len());
    if let Some(ordered) = ordered.text("web") {
        let mut other = blocks(ordered);
        found.sort();
        other.sort();
        assert_eq!(found, other, "an order adds nothing and loses nothing");
    }
}

/// The input is PEM as a vault keeps it.
pub fn pem(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mounted = mount_certificate(text, "application/x-pem-file", "true");
    assert_eq!(mounted.text("web"), Some(text), "the whole stays as it is");
    for own in ["web.crt", "web.key"] {
        let written = mounted.text(own).expect("both files are there");
        assert!(written.len() <= 2 * text.len() + 100, "{} bytes of {}", written.len(), text.len());
        let again = mount_certificate(written, "application/x-pem-file", "true");
        for file in ["web.crt", "web.key"] {
            let expected = if file == own { written } else { "" };
            assert_eq!(again.text(file), Some(expected), "what was taken apart stays apart");
        }
    }
}

fn mount_certificate(value: &str, content_type: &str, ordered: &str) -> Mounted {
    let bundle = serde_json::json!({
        "value": value, "contentType": content_type, "id": "https://h/secrets/web/v", "kid": "https://h/keys/web/v",
    });
    let bundle = bundle.to_string();
    let mut parameters = class(&["objectName: web\nobjectType: secret"]);
    parameters.insert("constructPEMChain".into(), ordered.into());
    parameters.insert("writeCertAndKeyInSeparateFiles".into(), "true".into());
    let mounted = mount_class(parameters, |_, _| body(200, bundle.as_bytes()));
    check_hosts(&mounted);
    mounted
}

/// The first line of the input is an expression, the rest the value of a secret.
///
/// What an expression makes in between is limited by the sandbox alone, so those that multiply are left out here.
pub fn jmespath(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Some((expression, value)) = text.split_once('\n') else { return };
    if expression.matches([',', '&']).count() > 4 || text.len() > 1_000 {
        return;
    }
    let quoted = expression.replace('\'', "''");
    let object = format!("objectName: j\nobjectType: secret\njmesPath: [{{path: '{quoted}', objectAlias: part}}]");
    let bundle = serde_json::json!({"value": value, "id": "https://h/secrets/j/v"}).to_string();
    let mounted = mount_class(class(&[&object]), |_, _| body(200, bundle.as_bytes()));
    if let Some(part) = mounted.file("part") {
        assert!(part.len() <= 1 << 20, "{} bytes of {}", part.len(), input.len());
    }
}
