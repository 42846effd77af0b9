//! The description of a custom cloud: a JSON object with the endpoints of an Azure Stack Hub or of a closed cloud.
//!
//! Keys match in any case, and unknown ones are ignored, as in the reference, which however checks nothing: here every
//! key that is used must be what it is used as, and a mistake names the key. The file is an administrator's, so the
//! values may be shown.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::{CUSTOM, Cloud};
use crate::failure::tidy;

const LOGIN: &str = "activeDirectoryEndpoint";
const DOMAIN: &str = "keyVaultDNSSuffix";
const ENDPOINT: &str = "keyVaultEndpoint";

/// Reads a file; the mistake goes on with the file's name.
pub(super) fn read(bytes: &[u8]) -> Result<Cloud, String> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let value: Value = serde_json::from_slice(bytes).map_err(|error| format!("is not JSON: {error}"))?;
    let Value::Object(keys) = value else { return Err("is not a JSON object".to_owned()) };
    let login_host = login_host(required(&keys, LOGIN)?)?;
    let vault_domain = domain(required(&keys, DOMAIN)?)?;
    let vault_endpoint = find(&keys, ENDPOINT)?.map(endpoint).transpose()?;
    Ok(Cloud {
        name: CUSTOM,
        login_host: Cow::Owned(login_host),
        vault_domain: Cow::Owned(vault_domain),
        vault_endpoint: vault_endpoint.map(Cow::Owned),
    })
}

/// The trimmed value of a key; none where it is missing, null or blank.
fn find<'k>(keys: &'k Map<String, Value>, wanted: &str) -> Result<Option<&'k str>, String> {
    let exact = keys.get(wanted);
    let found = exact.or_else(|| keys.iter().find(|(key, _)| key.eq_ignore_ascii_case(wanted)).map(|(_, value)| value));
    match found {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.trim()).filter(|text| !text.is_empty())),
        Some(_) => Err(format!("has a value of {wanted} that is not text")),
    }
}

fn required<'k>(keys: &'k Map<String, Value>, wanted: &str) -> Result<&'k str, String> {
    find(keys, wanted)?.ok_or_else(|| format!("has no {wanted}"))
}

/// The host of `https://host[:port]/`, in lower case. `/adfs` behind it is what Azure Stack itself writes for AD FS.
fn login_host(url: &str) -> Result<String, String> {
    let host = host_of(url, &["", "/adfs"]);
    host.ok_or_else(|| format!("has an {LOGIN} `{}` that is not https://HOST/", tidy(url, 120)))
}

/// `https://vault.example`, without a slash at the end.
fn endpoint(url: &str) -> Result<String, String> {
    let host = host_of(url, &[""]);
    let host = host.ok_or_else(|| format!("has a {ENDPOINT} `{}` that is not https://HOST/", tidy(url, 120)))?;
    Ok(format!("https://{host}"))
}

fn domain(text: &str) -> Result<String, String> {
    let lower = text.trim_start_matches('.').to_ascii_lowercase();
    if is_name(&lower) {
        Ok(lower)
    } else {
        Err(format!("has a {DOMAIN} `{}` that is not a domain such as vault.example", tidy(text, 120)))
    }
}

/// Host and port of an https URL whose path is one of these; a slash at the end means nothing.
fn host_of(url: &str, paths: &[&str]) -> Option<String> {
    let lower = url.to_ascii_lowercase();
    let rest = lower.strip_prefix("https://")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if !paths.contains(&path.trim_end_matches('/')) {
        return None;
    }
    let (host, port) = authority.split_once(':').unwrap_or((authority, "443"));
    let port: u16 = port.parse().ok()?;
    let host = is_name(host).then_some(host)?;
    Some(if port == 443 { host.to_owned() } else { format!("{host}:{port}") })
}

/// Labels of letters, digits and hyphens.
fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cloud(text: &str) -> Cloud {
        read(text.as_bytes()).unwrap_or_else(|mistake| panic!("{mistake}: {text}"))
    }

    fn mistake(text: &str) -> String {
        read(text.as_bytes()).unwrap_err()
    }

    #[test]
    fn keys_match_in_any_case_and_unknown_ones_are_ignored() {
        let cloud = cloud(
            r#"{"name":"HubCloud","ACTIVEDIRECTORYENDPOINT":" https://Login.Hub.Test/ ","keyvaultdnssuffix":".Vault.Hub.Test",
                "keyVaultEndpoint":"https://vault.hub.test/","galleryEndpoint":7,"resourceIdentifiers":{}}"#,
        );
        assert_eq!((&*cloud.login_host, &*cloud.vault_domain), ("login.hub.test", "vault.hub.test"));
        assert_eq!(cloud.vault_endpoint.as_deref(), Some("https://vault.hub.test"));
    }

    #[test]
    fn the_exact_spelling_wins_over_another_case() {
        let text = r#"{"activedirectoryendpoint":"https://no.test","activeDirectoryEndpoint":"https://yes.test","keyVaultDNSSuffix":"v"}"#;
        assert_eq!(cloud(text).login_host, "yes.test");
    }

    #[test]
    fn a_sign_in_of_ad_fs_may_stand_with_its_path_and_a_port() {
        for (url, host) in [
            ("https://adfs.hub.test/adfs", "adfs.hub.test"),
            ("https://adfs.hub.test/adfs/", "adfs.hub.test"),
            ("HTTPS://adfs.hub.test:443", "adfs.hub.test"),
            ("https://adfs.hub.test:8443/", "adfs.hub.test:8443"),
        ] {
            let text = format!(r#"{{"activeDirectoryEndpoint":"{url}","keyVaultDNSSuffix":"v.test"}}"#);
            assert_eq!(cloud(&text).login_host, host, "{url}");
        }
    }

    #[test]
    fn a_key_that_is_needed_is_named_when_it_is_missing_or_blank() {
        for value in ["", r#""keyVaultDNSSuffix":null,"#, r#""keyVaultDNSSuffix":" ","#] {
            let text = format!(r#"{{{value}"activeDirectoryEndpoint":"https://l.test"}}"#);
            assert_eq!(mistake(&text), "has no keyVaultDNSSuffix");
        }
        assert_eq!(mistake(r#"{"keyVaultDNSSuffix":"v.test"}"#), "has no activeDirectoryEndpoint");
    }

    #[test]
    fn what_is_not_what_its_key_says_is_named_by_the_key() {
        for url in [
            "http://l.test",
            "l.test",
            "https://",
            "https://l.test/tenant",
            "https://u@l.test",
            "https://l.test?x",
            "https://l.test:0x",
            "https://-l.test",
        ] {
            let text = format!(r#"{{"activeDirectoryEndpoint":"{url}","keyVaultDNSSuffix":"v.test"}}"#);
            assert!(mistake(&text).starts_with("has an activeDirectoryEndpoint `"), "{url}");
        }
        for suffix in ["https://v.test", "v..test", "v test", "v/test", "v.test."] {
            let text = format!(r#"{{"activeDirectoryEndpoint":"https://l.test","keyVaultDNSSuffix":"{suffix}"}}"#);
            assert!(mistake(&text).starts_with("has a keyVaultDNSSuffix `"), "{suffix}");
        }
        let endpoint = r#"{"activeDirectoryEndpoint":"https://l.test","keyVaultDNSSuffix":"v","keyVaultEndpoint":"x"}"#;
        assert!(mistake(endpoint).starts_with("has a keyVaultEndpoint `x`"));
        assert_eq!(
            mistake(r#"{"activeDirectoryEndpoint":7}"#),
            "has a value of activeDirectoryEndpoint that is not text"
        );
    }

    #[test]
    fn what_is_no_json_object_is_said_to_be_none() {
        assert!(mistake("{").starts_with("is not JSON: "));
        assert_eq!(mistake("[]"), "is not a JSON object");
        assert!(read(b"\xff").unwrap_err().starts_with("is not JSON: "));
    }

    proptest! {
        #[test]
        fn no_file_is_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..80), url in ".*", suffix in ".*") {
            let _ = read(&bytes);
            let text = serde_json::json!({LOGIN: url, DOMAIN: suffix, ENDPOINT: url}).to_string();
            let _ = read(text.as_bytes());
        }
    }
}
