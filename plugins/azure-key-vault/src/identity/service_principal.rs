//! Signing in as a service principal: client id, and client secret or client certificate.
//!
//! Both come from the Secret that `nodePublishSecretRef` names. A client secret goes into the body of one request to the
//! token endpoint and nowhere else; the key of a certificate goes nowhere, an assertion that it signed does. Certificates
//! are a way that the reference does not have.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::certificate::{self, Certificate};
use super::federated::JWT_BEARER;
use super::{entra, is_guid};
use crate::failure::Failure;
use crate::http::Http;
use crate::parameters::Settings;
use crate::provider::{Request, Secret};
use crate::spelling;
use crate::token::Token;

const ID: &str = "clientid";
const SECRET: &str = "clientsecret";
const CERTIFICATE: &str = "clientcertificate";

/// Client id and what proves it.
pub(crate) struct Credentials {
    client_id: String,
    proof: Proof,
    entropy: [u8; 32],
}

/// What proves that the client id is the caller's, as the Secret holds it.
enum Proof {
    Secret(Zeroizing<String>),
    /// PEM, read when something has to be signed: with a kept token nothing has.
    Certificate(Zeroizing<String>),
}

impl Credentials {
    /// Finds both among the keys of the Secret, in any case. Values are used as they are, as in the reference.
    pub(super) fn read(request: &Request) -> Result<Self, Failure> {
        let secrets = &request.secrets;
        if secrets.is_empty() {
            return Err(Failure::invalid(
                "nodePublishSecretRef secret is not set, and there is no other way to sign in: set it to one with the keys \
                 clientid and clientsecret, or clientID for workload identity, or useVMManagedIdentity",
            ));
        }
        match (find(secrets, ID), Proof::find(secrets)) {
            (Ok(client_id), Ok(proof)) => {
                Ok(Self { client_id: client_id.to_string(), proof, entropy: request.entropy })
            }
            (id, proof) => {
                let mistakes: Vec<String> = [id.err(), proof.err()].into_iter().flatten().collect();
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
        let id = ("client_id", self.client_id.as_str());
        let grant_type = ("grant_type", "client_credentials");
        let answer = match &self.proof {
            Proof::Secret(secret) => {
                let form = [id, ("client_secret", secret.as_str()), grant_type];
                entra::get_token(http, settings, &form, now, request_id)
            }
            Proof::Certificate(pem) => {
                let assertion = self.assert(pem, settings, now, request_id)?;
                let kind = ("client_assertion_type", JWT_BEARER);
                let form = [("client_assertion", assertion.as_str()), kind, id, grant_type];
                entra::get_token(http, settings, &form, now, request_id)
            }
        };
        answer.map_err(|mut refusal| {
            refusal.detail = self.conceal(refusal.detail);
            let advice = self.advise(refusal.code);
            entra::explain(refusal, settings, &self.describe(), advice)
        })
    }

    fn assert(&self, pem: &str, settings: &Settings, now: u64, request_id: &str) -> Result<Zeroizing<String>, Failure> {
        let subject = certificate::Subject {
            client_id: &self.client_id,
            endpoint: &entra::endpoint(settings),
            now,
            entropy: self.entropy,
            request_id,
            adfs: settings.tenant.is_adfs(),
        };
        let signed = Certificate::read(pem).and_then(|certificate| certificate.assert(&subject));
        signed.map_err(|mistake| {
            Failure::invalid(format!("the key {CERTIFICATE} of the Secret that nodePublishSecretRef names {mistake}"))
        })
    }

    fn advise(&self, code: Option<u32>) -> Option<String> {
        Some(match code? {
            7_000_215 => format!(
                "the client secret is wrong: put the secret's value, not its id, under the key {SECRET} of the Secret \
                 that nodePublishSecretRef names{}",
                self.doubts()
            ),
            700_027 => format!(
                "the application does not have this certificate, or it has expired: upload the certificate of \
                 {CERTIFICATE} to the application"
            ),
            700_024 => "the assertion is not valid at this time: set the node's clock".to_owned(),
            7_000_222 => format!("the client secret has expired: make a new one and put it under {SECRET}"),
            700_016 => format!(
                "the tenant has no such application: check {ID} in the Secret, tenantID and cloudName{}",
                self.doubts()
            ),
            _ => return None,
        })
    }

    /// What is odd about the values. They are not trimmed; a line end that an editor or `echo` added is the usual reason
    /// for a refusal.
    fn doubts(&self) -> String {
        let mut doubts = String::new();
        let secret = self.client_secret();
        for (key, value) in [(ID, self.client_id.as_str()), (SECRET, secret)] {
            if value.trim() != value {
                doubts.push_str(&format!("; the value of {key} starts or ends with white space or a line end"));
            }
        }
        if !is_guid(self.client_id.trim()) && !secret.is_empty() {
            doubts.push_str(&format!("; the value of {ID} is not an application's id: are {ID} and {SECRET} swapped?"));
        }
        doubts
    }

    /// Empty for a certificate.
    fn client_secret(&self) -> &str {
        match &self.proof {
            Proof::Secret(secret) => secret,
            Proof::Certificate(_) => "",
        }
    }

    /// Entra's words without the values, should it repeat them. An id is no secret, unless it is none.
    fn conceal(&self, mut detail: String) -> String {
        let (id, secret) = (self.client_id.trim(), self.client_secret().trim());
        if !secret.is_empty() {
            // As it stands in the form that was sent, too: what stands between may answer with all of it.
            let sent: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
            for written in [secret, &sent] {
                detail = detail.replace(written, &format!("[{SECRET}]"));
            }
        }
        if !id.is_empty() && !is_guid(id) {
            detail = detail.replace(id, &format!("[{ID}]"));
        }
        detail
    }
}

impl Proof {
    /// Exactly one of the two.
    fn find(secrets: &BTreeMap<String, Secret>) -> Result<Self, String> {
        let is_set =
            |wanted: &str| secrets.iter().any(|(key, value)| key.eq_ignore_ascii_case(wanted) && !value.is_empty());
        match (is_set(SECRET), is_set(CERTIFICATE)) {
            (true, true) => Err(format!(
                "{SECRET} and {CERTIFICATE} exclude each other: take one of them out of the Secret that \
                 nodePublishSecretRef names"
            )),
            (false, true) => find(secrets, CERTIFICATE).map(Self::Certificate),
            (_, false) => find(secrets, SECRET).map(Self::Secret),
        }
    }
}

fn find(secrets: &BTreeMap<String, Secret>, wanted: &str) -> Result<Zeroizing<String>, String> {
    let exact = secrets.get_key_value(wanted);
    let found = exact.or_else(|| secrets.iter().find(|(key, _)| key.eq_ignore_ascii_case(wanted)));
    let Some((_, value)) = found else {
        let advice = spelling::advice(spelling::misspelt(wanted, secrets.keys().map(String::as_str)), wanted);
        return Err(format!(
            "could not find {wanted} in secrets: the Secret that nodePublishSecretRef names has no key {wanted}{advice}"
        ));
    };
    match std::str::from_utf8(value) {
        Ok("") => Err(format!(
            "could not find {wanted} in secrets: the key {wanted} of the Secret that nodePublishSecretRef names is empty"
        )),
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(format!("the key {wanted} of the Secret that nodePublishSecretRef names is not text")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(keys: &[(&str, &str)]) -> Result<Credentials, Failure> {
        let secrets = keys.iter().map(|(k, v)| ((*k).to_owned(), Zeroizing::new(v.as_bytes().to_vec()))).collect();
        Credentials::read(&Request { secrets, ..Request::default() })
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
        assert_eq!((credentials.client_id(), credentials.client_secret()), ("id", " s\n"));
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
