//! Signing in with the client id and client secret of a service principal.
//!
//! Both come from the Secret that `nodePublishSecretRef` names. The secret goes into the body of one request to Entra
//! and nowhere else.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::entra;
use crate::failure::{Failure, FailureKind};
use crate::http::Http;
use crate::parameters::Settings;
use crate::provider::Secret;
use crate::spelling;
use crate::token::Token;

const ID: &str = "clientid";
const SECRET: &str = "clientsecret";

/// Client id and client secret.
pub(crate) struct Credentials {
    client_id: String,
    client_secret: Zeroizing<String>,
}

impl Credentials {
    /// Finds both among the keys of the Secret, in any case. Values are used as they are, as in the reference.
    pub(super) fn read(secrets: &BTreeMap<String, Secret>) -> Result<Self, Failure> {
        if secrets.is_empty() {
            return Err(Failure::invalid(
                "the volume names no Secret to sign in with: set nodePublishSecretRef to one with the keys clientid and \
                 clientsecret",
            ));
        }
        match (find(secrets, ID), find(secrets, SECRET)) {
            (Ok(client_id), Ok(client_secret)) => Ok(Self { client_id: client_id.to_string(), client_secret }),
            (id, secret) => {
                let mistakes: Vec<String> = [id.err(), secret.err()].into_iter().flatten().collect();
                Err(Failure::of_mistakes(&mistakes))
            }
        }
    }

    pub(super) fn client_id(&self) -> &str {
        &self.client_id
    }

    /// The principal in words: the first block of its id, enough to recognise it and not a value of the Secret, which
    /// the host would blot out. What is not an id is not shown at all; it may be the secret under the wrong key.
    pub(super) fn describe(&self) -> String {
        match self.client_id.split_once('-') {
            Some((block, _)) if is_guid(&self.client_id) => format!("the service principal {block}-…"),
            _ => "the service principal".to_owned(),
        }
    }

    pub(super) fn sign_in(
        &self,
        http: &impl Http,
        settings: &Settings,
        now: u64,
        request_id: &str,
    ) -> Result<Token, Failure> {
        let form = [
            ("client_id", self.client_id.as_str()),
            ("client_secret", self.client_secret.as_str()),
            ("grant_type", "client_credentials"),
        ];
        entra::get_token(http, settings, &form, now, request_id).map_err(|refusal| self.explain(refusal, settings))
    }

    fn explain(&self, refusal: entra::Refusal, settings: &Settings) -> Failure {
        let tenant = settings.tenant.as_str();
        let advice = match refusal.code {
            Some(7_000_215) => format!(
                "the client secret is wrong: put the secret's value, not its id, under the key {SECRET} of the Secret \
                 that nodePublishSecretRef names{}",
                self.doubts()
            ),
            Some(7_000_222) => format!("the client secret has expired: make a new one and put it under {SECRET}"),
            Some(700_016) => format!(
                "the tenant has no such application: check {ID} in the Secret, tenantID and cloudName{}",
                self.doubts()
            ),
            Some(7_000_112 | 7_000_114) => "the application is disabled".to_owned(),
            Some(90_002 | 900_023) => "there is no such tenant: check tenantID and cloudName".to_owned(),
            Some(500_011) => "the tenant does not know Key Vault: check cloudName".to_owned(),
            Some(53_003) => "a conditional access policy forbids it: allow the address of the node".to_owned(),
            _ => String::new(),
        };
        let kind = match refusal.code {
            Some(90_002 | 900_023) => FailureKind::InvalidRequest,
            Some(53_003) => FailureKind::PermissionDenied,
            _ => refusal.kind,
        };
        let separator = if advice.is_empty() || refusal.detail.is_empty() { "" } else { "; " };
        let detail = self.conceal(refusal.detail);
        let principal = self.describe();
        Failure::new(kind, format!("cannot sign in {principal} to the tenant {tenant}: {advice}{separator}{detail}"))
    }

    /// What is odd about the values. They are not trimmed; a line end that an editor or `echo` added is the usual reason
    /// for a refusal.
    fn doubts(&self) -> String {
        let mut doubts = String::new();
        for (key, value) in [(ID, self.client_id.as_str()), (SECRET, self.client_secret.as_str())] {
            if value.trim() != value {
                doubts.push_str(&format!("; the value of {key} starts or ends with white space or a line end"));
            }
        }
        if !is_guid(self.client_id.trim()) {
            doubts.push_str(&format!("; the value of {ID} is not an application's id: are {ID} and {SECRET} swapped?"));
        }
        doubts
    }

    /// Entra's words without the values, should it repeat them. An id is no secret, unless it is none.
    fn conceal(&self, mut detail: String) -> String {
        let (id, secret) = (self.client_id.trim(), self.client_secret.trim());
        if !secret.is_empty() {
            detail = detail.replace(secret, &format!("[{SECRET}]"));
        }
        if !id.is_empty() && !is_guid(id) {
            detail = detail.replace(id, &format!("[{ID}]"));
        }
        detail
    }
}

/// RFC 9562 section 4: 8, 4, 4, 4 and 12 hexadecimal digits.
fn is_guid(text: &str) -> bool {
    let blocks = text.split('-').map(|block| block.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(block.len()));
    blocks.eq([8, 4, 4, 4, 12].map(Some))
}

fn find(secrets: &BTreeMap<String, Secret>, wanted: &str) -> Result<Zeroizing<String>, String> {
    let exact = secrets.get_key_value(wanted);
    let found = exact.or_else(|| secrets.iter().find(|(key, _)| key.eq_ignore_ascii_case(wanted)));
    let Some((_, value)) = found else {
        let advice = spelling::advice(spelling::misspelt(wanted, secrets.keys().map(String::as_str)), wanted);
        return Err(format!("the Secret that nodePublishSecretRef names has no key {wanted}{advice}"));
    };
    match std::str::from_utf8(value) {
        Ok("") => Err(format!("the key {wanted} of the Secret that nodePublishSecretRef names is empty")),
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(format!("the key {wanted} of the Secret that nodePublishSecretRef names is not text")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(keys: &[(&str, &str)]) -> Result<Credentials, Failure> {
        let secrets = keys.iter().map(|(k, v)| ((*k).to_owned(), Zeroizing::new(v.as_bytes().to_vec()))).collect();
        Credentials::read(&secrets)
    }

    fn message(keys: &[(&str, &str)]) -> String {
        match read(keys) {
            Ok(_) => panic!("accepted"),
            Err(failure) => failure.message,
        }
    }

    #[test]
    fn keys_match_in_any_case_and_values_are_not_trimmed() {
        let credentials = read(&[("ClientID", "id"), ("CLIENTSECRET", " s\n"), ("more", "x")]).ok().unwrap();
        assert_eq!((credentials.client_id(), credentials.client_secret.as_str()), ("id", " s\n"));
    }

    #[test]
    fn the_exact_spelling_wins_over_another_case() {
        let credentials = read(&[("ClientID", "no"), ("clientid", "id"), ("clientsecret", "s")]).ok().unwrap();
        assert_eq!(credentials.client_id(), "id");
    }

    #[test]
    fn a_volume_without_a_secret_is_told_to_name_one() {
        assert!(message(&[]).contains("nodePublishSecretRef"));
    }

    #[test]
    fn missing_keys_are_named_with_what_they_were_misspelt_as() {
        let text = message(&[("client-id", "id"), ("clientsecret", "")]);
        assert!(text.contains("has no key clientid (there is `client-id`: did you mean `clientid`?)"), "{text}");
        assert!(text.contains("the key clientsecret of the Secret that nodePublishSecretRef names is empty"), "{text}");
    }
}
