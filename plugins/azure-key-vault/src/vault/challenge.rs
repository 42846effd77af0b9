//! What a vault says with a 401, and whether to believe it.
//!
//! The resource of a token follows from the cloud, so a challenge teaches nothing; it is only judged. One that names
//! another resource than the vaults of this cloud, a parent domain such as `https://net` included, is refused: whoever
//! answers would like a token that it should not have. The authority that it names is never used.

use crate::http::Response;

/// What the 401 of a vault amounts to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The vault wants a token for the vaults of its own cloud: a new one may help.
    Expected,
    /// There is no challenge, or none that can be read.
    Unclear,
    /// It asks for a token for something else.
    Foreign(String),
}

/// Judges a 401 of a vault in the domain `vault_domain`.
pub(crate) fn judge(response: &Response, vault_domain: &str) -> Verdict {
    let headers = response.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("www-authenticate"));
    let mut bearers = headers.filter_map(|(_, value)| bearer(value));
    let Some(parameters) = bearers.next() else { return Verdict::Unclear };
    let find = |name: &str| parameters.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
    let Some(resource) = find("scope").or_else(|| find("resource")).filter(|resource| !resource.is_empty()) else {
        return Verdict::Unclear;
    };
    let resource = resource.strip_suffix("/.default").unwrap_or(resource);
    let host = resource.strip_prefix("https://").map(|rest| rest.strip_suffix('/').unwrap_or(rest));
    match host {
        Some(host) if host.eq_ignore_ascii_case(vault_domain) => Verdict::Expected,
        _ => Verdict::Foreign(crate::failure::tidy(resource, 100)),
    }
}

/// Whether a 401 refuses a token that was good until something happened (a claims challenge of continuous access
/// evaluation). The claims themselves are not looked at: this provider does not tell Entra that it understands them, so
/// no token of its own should ever meet one.
pub(crate) fn asks_for_claims(response: &Response) -> bool {
    let headers = response.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("www-authenticate"));
    let mut parameters = headers.filter_map(|(_, value)| bearer(value)).flatten();
    parameters.any(|(name, value)| name == "error" && value == "insufficient_claims")
}

/// The parameters of a `Bearer` challenge, names in lower case; none for another scheme. Vaults separate them by space,
/// RFC 9110 section 11.6.1 by comma; both are read, values with and without quotes.
fn bearer(header: &str) -> Option<Vec<(String, String)>> {
    let header = header.trim_start();
    let (scheme, mut rest) = header.split_once(char::is_whitespace).unwrap_or((header, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let mut parameters = Vec::new();
    loop {
        rest = rest.trim_start_matches(|c: char| c == ',' || c.is_whitespace());
        let Some((name, after)) = rest.split_once('=') else { return Some(parameters) };
        let (value, after) = value(after.trim_start());
        // Text without a `=` before this one belongs to no parameter.
        let name = name.trim_end().rsplit(|c: char| c == ',' || c.is_whitespace()).next().unwrap_or_default();
        parameters.push((name.to_ascii_lowercase(), value));
        rest = after;
    }
}

/// The value at the start of `text`, and what follows it.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c: char| c == ',' || c.is_whitespace()).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut chars = quoted.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => return (value, chars.as_str()),
            '\\' => value.extend(chars.next()),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn verdict(header: &str) -> Verdict {
        let headers = vec![("www-authenticate".into(), header.into())];
        judge(&Response { status: 401, headers, body: Vec::new() }, "vault.azure.net")
    }

    #[test]
    fn the_resource_of_the_cloud_is_expected_in_every_notation() {
        for header in [
            r#"Bearer authorization="https://login.microsoftonline.com/t", resource="https://vault.azure.net""#,
            r#"Bearer authorization="https://login.microsoftonline.com/t" resource="https://vault.azure.net""#,
            r#"Bearer authorization="https://x",resource="https://vault.azure.net/""#,
            r#"bearer resource=https://VAULT.azure.net"#,
            r#"Bearer scope="https://vault.azure.net/.default", resource="https://elsewhere""#,
            r#"Bearer Resource = "https://vault\.azure.net""#,
            r#"Bearer error="invalid_token" , , resource="https://vault.azure.net","#,
        ] {
            assert_eq!(verdict(header), Verdict::Expected, "{header}");
        }
    }

    #[test]
    fn any_other_resource_is_foreign_parents_of_the_domain_included() {
        for resource in [
            "https://azure.net",
            "https://net",
            "https://kv1.vault.azure.net",
            "https://management.azure.com",
            "http://vault.azure.net",
            "https://vault.azure.net.evil.example",
            "https://vault.azure.net@evil.example",
            "https://vault.azure.net:8443",
            "vault.azure.net",
        ] {
            assert_eq!(verdict(&format!("Bearer resource=\"{resource}\"")), Verdict::Foreign(resource.into()));
        }
    }

    #[test]
    fn what_cannot_be_read_is_unclear() {
        for header in [
            "",
            "Bearer",
            "Bearer authorization=\"x\"",
            "Bearer resource",
            "Bearer resource=",
            "Bearer resource=\"",
            "Basic resource=\"https://vault.azure.net\"",
            "Bearer =,=,=",
        ] {
            assert_eq!(verdict(header), Verdict::Unclear, "{header}");
        }
        assert_eq!(judge(&Response { status: 401, headers: vec![], body: vec![] }, "x"), Verdict::Unclear);
    }

    #[test]
    fn a_bearer_challenge_is_found_among_others() {
        let header = |value: &str| ("WWW-Authenticate".to_owned(), value.to_owned());
        let headers = vec![header("Basic realm=x"), header("Bearer resource=https://vault.azure.net")];
        assert_eq!(judge(&Response { status: 401, headers, body: vec![] }, "vault.azure.net"), Verdict::Expected);
    }

    proptest! {
        #[test]
        fn no_header_is_too_strange(header in ".*", tail in r#"Bearer [a-z="\\, ]*"#) {
            verdict(&header);
            verdict(&tail);
        }
    }
}
