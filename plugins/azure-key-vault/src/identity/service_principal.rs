//! Signing in with the client id and client secret of a service principal.
//!
//! Both come from the Secret that `nodePublishSecretRef` names. The secret goes into the body of one request to Entra
//! and nowhere else.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::entra;
use crate::failure::{Failure, FailureKind, tidy};
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
        let client_id = tidy(&self.client_id, 60);
        let tenant = settings.tenant.as_str();
        let advice = match refusal.code {
            Some(7_000_215) => format!(
                "the client secret is wrong: put the secret's value, not its id, under the key {SECRET} of the Secret \
                 that nodePublishSecretRef names{}",
                self.stray_characters()
            ),
            Some(7_000_222) => format!("the client secret has expired: make a new one and put it under {SECRET}"),
            Some(700_016) => format!(
                "the tenant has no such application: check {ID} in the Secret, tenantID and cloudName{}",
                self.stray_characters()
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
        let detail = refusal.detail.replace(self.client_secret.as_str(), "[client secret]");
        Failure::new(
            kind,
            format!(
                "cannot sign in the service principal {client_id} to the tenant {tenant}: {advice}{separator}{detail}"
            ),
        )
    }

    /// Values are not trimmed; a line end that an editor or `echo` added is the usual reason for a refusal.
    fn stray_characters(&self) -> String {
        let stray = |text: &str| text.trim() != text;
        let keys: Vec<&str> = [(ID, stray(&self.client_id)), (SECRET, stray(&self.client_secret))]
            .into_iter()
            .filter_map(|(key, stray)| stray.then_some(key))
            .collect();
        if keys.is_empty() {
            return String::new();
        }
        format!("; the value of {} starts or ends with white space or a line end", keys.join(" and of "))
    }
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
