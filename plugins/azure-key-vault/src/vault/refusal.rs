//! Why a vault did not give an object, in words that say what to do.
//!
//! Azure's own code and first sentence, and the request id, stand in every message; the advice comes before them.

use serde::Deserialize;

use crate::failure::{FailureKind, tidy};
use crate::http::{Error, LONGEST_ERROR, Response};
use crate::objects::Kind;
use crate::vault::challenge;

/// What messages need to know about the asking side.
pub(crate) struct Asked<'a> {
    pub(crate) kind: Kind,
    /// Empty for the current one, and for a list.
    pub(crate) version: &'a str,
    /// The permission that it takes in an access policy: `Get` or `List`.
    pub(crate) permission: &'static str,
    /// The vault's host.
    pub(crate) vault: &'a str,
    /// Who the vault sees: `the service principal 0000-…`.
    pub(crate) principal: &'a str,
}

/// What a refusal means, and what to say about it.
pub(crate) type Explained = (FailureKind, String);

#[derive(Default, Deserialize)]
#[serde(default)]
struct Body {
    error: Details,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Details {
    code: String,
    message: String,
    innererror: Option<Box<Details>>,
}

/// Explains a response that is not a 200.
pub(crate) fn explain(response: &Response, asked: &Asked<'_>) -> Explained {
    let details = details(response);
    let inner = details.innererror.map(|inner| inner.code).unwrap_or_default();
    let (kind, advice) = match response.status {
        401 => (FailureKind::Unauthenticated, unauthenticated(response, &details.message, asked)),
        403 => (FailureKind::PermissionDenied, forbidden(&inner, &details.message, asked)),
        404 => (FailureKind::NotFound, not_found(asked)),
        400 => (FailureKind::InvalidRequest, "the vault cannot read the request: check objectVersion".to_owned()),
        429 => {
            let retry_after_seconds = response.retry_after_seconds();
            (FailureKind::Throttled { retry_after_seconds }, "the vault asks to slow down".to_owned())
        }
        408 | 500.. => (FailureKind::Unavailable, format!("the vault {} has a problem of its own", asked.vault)),
        300..400 => (FailureKind::Internal, "the vault redirects, and redirects are not followed".to_owned()),
        _ => (FailureKind::Internal, "the vault answers in a way that a vault should not".to_owned()),
    };
    let code = if inner.is_empty() { details.code } else { format!("{}, {inner}", details.code) };
    (kind, format!("{advice} ({})", said(response, &code, &details.message)))
}

/// What the body says: a vault's own error, or the words of whoever answers in plain text in its place.
fn details(response: &Response) -> Details {
    let plain = response.header("content-type").is_some_and(|kind| kind.starts_with("text/plain"));
    match serde_json::from_slice::<Body>(&response.body) {
        Err(_) if plain => {
            Details { message: String::from_utf8_lossy(&response.body).into_owned(), ..Details::default() }
        }
        body => body.unwrap_or_default().error,
    }
}

/// Explains why there is no response.
pub(crate) fn explain_error(error: &Error, vault: &str) -> Explained {
    let text = tidy(&error.to_string(), LONGEST_ERROR);
    let advice = match error {
        Error::Dns(_) => {
            format!("{vault}: {text}; check keyvaultName, cloudName, and the private DNS zone if there is one")
        }
        Error::Denied(_) => format!("{vault}: {text}; an administrator has to allow it"),
        _ => format!("{vault}: {text}"),
    };
    (error.kind(), advice)
}

/// Status, code, request id and message, as far as they are there.
fn said(response: &Response, code: &str, message: &str) -> String {
    let mut said = format!("status {}", response.status);
    if !code.is_empty() {
        said = format!("{said}, {}", tidy(code, 80));
    }
    if let Some(id) = response.header("x-ms-request-id") {
        said = format!("{said}, request {}", tidy(id, 60));
    }
    // What follows the first line repeats ids of caller, application and vault.
    let first = message.lines().next().unwrap_or_default();
    if first.trim().is_empty() { said } else { format!("{said}: {}", tidy(first, 300)) }
}

fn unauthenticated(response: &Response, message: &str, asked: &Asked<'_>) -> String {
    let advice = if challenge::asks_for_claims(response) {
        ": it asks for further claims, and a new token did not bring them; check that the identity is enabled, and the \
         policies of the tenant (continuous access evaluation, conditional access)"
    } else if message.contains("AKV10032") || message.contains("Invalid issuer") {
        ": the vault belongs to another tenant, check tenantID"
    } else if message.contains("AKV10022") || message.contains("Invalid audience") {
        ": check cloudName"
    } else {
        ""
    };
    format!("the vault {} does not accept the token of {}{advice}", asked.vault, asked.principal)
}

fn forbidden(inner: &str, message: &str, asked: &Asked<'_>) -> String {
    let Asked { kind, vault, principal, permission, .. } = asked;
    // Names stand in the message, and a name can have any of these words in it.
    let is_told = ["Rbac", "Policy", "Firewall", "Connection"].iter().any(|code| inner.contains(code));
    let lower = if is_told { String::new() } else { message.to_ascii_lowercase() };
    let what = noun(*kind);
    if inner.contains("Disabled") || lower.contains("disabled") && lower.contains("operation") {
        format!("the {what} is disabled: enable it, or name an enabled version")
    } else if inner.contains("Expired") || lower.contains("expired") {
        format!("the {what} has expired: renew it, or move its expiration date")
    } else if inner.contains("NotYetValid") || lower.contains("not yet valid") {
        format!("the {what} is not valid yet: wait, or move its activation date")
    } else if inner.contains("Firewall") || lower.contains("client address is not authorized") {
        format!("the firewall of {vault} does not let the node in: allow its address, or use a private endpoint")
    } else if inner.contains("Connection") {
        format!("{vault} does not accept connections from public networks: use a private endpoint")
    } else if inner.contains("Policy") {
        format!("give {principal} the permission {permission} for {what}s in the access policy of {vault}")
    } else if inner.contains("Rbac") {
        format!("give {principal} the role {} on {vault}", role(*kind))
    } else {
        let role = role(*kind);
        format!(
            "give {principal} the role {role} on {vault}, or the permission {permission} for {what}s in its access \
             policy"
        )
    }
}

fn not_found(asked: &Asked<'_>) -> String {
    let Asked { kind, version, vault, .. } = asked;
    let what = noun(*kind);
    if version.is_empty() {
        format!("{vault} has no {what} of this name: check objectName and objectType, or recover it if it was deleted")
    } else {
        let version = tidy(version, 60);
        format!(
            "{vault} has no {what} of this name in version {version}: check objectName, objectType and objectVersion"
        )
    }
}

fn noun(kind: Kind) -> &'static str {
    match kind {
        Kind::Secret => "secret",
        Kind::Key => "key",
        Kind::Certificate => "certificate",
    }
}

/// The least of Azure's own roles that may read such an object.
fn role(kind: Kind) -> &'static str {
    match kind {
        Kind::Secret => "Key Vault Secrets User",
        Kind::Key => "Key Vault Crypto User",
        Kind::Certificate => "Key Vault Certificate User",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects;

    fn explained(kind: &str, version: &str, status: u16, body: &str) -> Explained {
        let text =
            format!("array:\n  - |\n    objectName: a\n    objectType: {kind}\n    objectVersion: '{version}'\n");
        let objects = objects::parse(&text);
        let asked = Asked {
            kind: objects.list[0].kind,
            version: &objects.list[0].version,
            permission: "Get",
            vault: "kv1.vault.azure.net",
            principal: "the service principal id-1",
        };
        let headers =
            vec![("x-ms-request-id".to_owned(), "r-1".to_owned()), ("retry-after".to_owned(), "7".to_owned())];
        explain(&Response { status, headers, body: body.as_bytes().to_vec() }, &asked)
    }

    fn forbidden(inner: &str, message: &str) -> String {
        let body =
            format!(r#"{{"error":{{"code":"Forbidden","message":"{message}","innererror":{{"code":"{inner}"}}}}}}"#);
        let (kind, text) = explained("secret", "", 403, &body);
        assert_eq!(kind, FailureKind::PermissionDenied);
        text
    }

    #[test]
    fn who_answers_in_plain_text_in_the_vaults_place_is_quoted() {
        let objects = objects::parse("array:\n  - |\n    objectName: a\n    objectType: secret\n");
        let asked = Asked {
            kind: objects.list[0].kind,
            version: "",
            permission: "Get",
            vault: "kv1.vault.azure.net",
            principal: "the service principal id-1",
        };
        let headers = vec![("Content-Type".to_owned(), "text/plain; charset=utf-8".to_owned())];
        let body = b"kv1 asks for fewer requests; try again in 7 s\nmore".to_vec();
        let (_, text) = explain(&Response { status: 429, headers, body }, &asked);
        assert_eq!(text, "the vault asks to slow down (status 429: kv1 asks for fewer requests; try again in 7 s)");
    }

    #[test]
    fn a_missing_permission_names_principal_role_and_vault() {
        assert_eq!(
            forbidden("ForbiddenByRbac", "Caller is not authorized.\\r\\nCaller: appid=1"),
            "give the service principal id-1 the role Key Vault Secrets User on kv1.vault.azure.net (status 403, \
             Forbidden, ForbiddenByRbac, request r-1: Caller is not authorized.)"
        );
        assert!(forbidden("ForbiddenByPolicy", "x").starts_with(
            "give the service principal id-1 the permission Get for secrets in the access policy of kv1.vault.azure.net"
        ));
        assert!(forbidden("", "").contains("Key Vault Secrets User") && forbidden("", "").contains("access policy"));
    }

    #[test]
    fn the_state_of_an_object_and_the_network_of_a_vault_are_told_apart() {
        for (inner, message, start) in [
            ("SecretDisabled", "", "the secret is disabled"),
            ("", "Operation get is not allowed on a disabled secret.", "the secret is disabled"),
            ("SecretExpired", "", "the secret has expired"),
            ("", "Operation get is not allowed on an expired secret.", "the secret has expired"),
            ("SecretNotYetValid", "", "the secret is not valid yet"),
            ("ForbiddenByFirewall", "", "the firewall of kv1.vault.azure.net"),
            ("", "Client address is not authorized and caller is not a trusted service.", "the firewall"),
            ("ForbiddenByConnection", "", "kv1.vault.azure.net does not accept connections"),
        ] {
            let text = forbidden(inner, message);
            assert!(text.starts_with(start), "{inner} {message}: {text}");
        }
    }

    #[test]
    fn every_other_status_has_its_kind() {
        let kind = |status| explained("secret", "", status, "").0;
        assert_eq!(kind(401), FailureKind::Unauthenticated);
        assert_eq!(kind(404), FailureKind::NotFound);
        assert_eq!(kind(400), FailureKind::InvalidRequest);
        assert_eq!(kind(429), FailureKind::Throttled { retry_after_seconds: Some(7) });
        assert_eq!(kind(503), FailureKind::Unavailable);
        assert_eq!(kind(302), FailureKind::Internal);
        assert_eq!(kind(204), FailureKind::Internal);
    }

    #[test]
    fn a_missing_version_is_named() {
        assert!(
            explained("key", "v1", 404, "").1.starts_with("kv1.vault.azure.net has no key of this name in version v1")
        );
        assert!(explained("cert", "", 404, "").1.starts_with("kv1.vault.azure.net has no certificate of this name:"));
    }

    #[test]
    fn a_vault_of_another_tenant_is_recognised() {
        let body = r#"{"error":{"code":"Unauthorized","message":"AKV10032: Invalid issuer. Expected one of https://sts.windows.net/a/"}}"#;
        assert!(explained("secret", "", 401, body).1.contains("another tenant, check tenantID"));
    }

    #[test]
    fn a_body_that_is_no_error_object_is_left_out() {
        for body in ["", "<html>", "[]", r#"{"error":7}"#, r#"{"error":{"code":null}}"#] {
            let (_, text) = explained("secret", "", 502, body);
            assert!(text.ends_with("(status 502, request r-1)"), "{text}");
        }
    }

    #[test]
    fn errors_without_a_response_say_what_to_check() {
        let (kind, text) = explain_error(&Error::Dns("no such host".into()), "kv1.vault.azure.net");
        assert_eq!(kind, FailureKind::Unavailable);
        assert!(text.contains("no such host") && text.contains("check keyvaultName"), "{text}");
        let (kind, text) = explain_error(&Error::Denied("no rule".into()), "kv1.vault.azure.net");
        assert_eq!(kind, FailureKind::PermissionDenied);
        assert!(text.contains("no rule") && text.contains("administrator"), "{text}");
    }
}
