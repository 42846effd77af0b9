//! Requests to vaults with one token, which is renewed once if a vault rejects it.
//!
//! The token may be one that was kept from an earlier call and was revoked since. Only those requests that were
//! rejected are sent again. `mount` opens a conversation, `gather` asks.

use crate::failure::{Failure, FailureKind};
use crate::http::{Error, Http, Response};
use crate::identity::Credentials;
use crate::parameters::Settings;
use crate::provider::{Request, Session};
use crate::token::Token;
use crate::vault::Vault;
use crate::vault::challenge::{self, Verdict};
use crate::vault::refusal::{self, Explained};

/// How long one attempt may take where there is another vault to ask: with the host's retries and the time between
/// them, that leaves half of a call's minute for the other one.
const IMPATIENCE_MS: u32 = 5_000;

/// The answers to requests, in their order.
pub(super) type Answers = Vec<Result<Response, Explained>>;

/// What asking takes.
pub(super) struct Conversation<'c, H> {
    pub(super) settings: &'c Settings,
    pub(super) request: &'c Request,
    pub(super) credentials: &'c Credentials,
    http: &'c H,
    token: Token,
    /// Whether the token is from an earlier call.
    is_kept: bool,
    may_renew: bool,
    batches: u8,
}

impl<'c, H: Http> Conversation<'c, H> {
    /// Takes the token that was kept, or signs in.
    pub(super) fn open(
        http: &'c H,
        settings: &'c Settings,
        credentials: &'c Credentials,
        request: &'c Request,
    ) -> Result<Self, Failure> {
        let owner = owner(settings, credentials);
        let kept = request.session.as_ref().and_then(|session| Token::restore(session, &owner, request.now));
        let is_kept = kept.is_some();
        let sign_in = || credentials.sign_in(http, settings, request.now, &request_id(&request.entropy, 0));
        let token = kept.map_or_else(sign_in, Ok)?;
        Ok(Self { settings, request, credentials, http, token, is_kept, may_renew: true, batches: 0 })
    }

    /// What to keep of the token for the next call.
    pub(super) fn keep(&self) -> Option<Session> {
        self.token.keep(&owner(self.settings, self.credentials), self.request.now)
    }

    /// Asks a vault for what is at all of these places at once.
    ///
    /// # Errors
    /// The token had to be renewed and that failed.
    pub(super) fn ask(&mut self, vault: &Vault, urls: &[String]) -> Result<Answers, Failure> {
        let mut answers = self.send(vault, urls.iter());
        let rejected = self.rejected(vault, &mut answers);
        if rejected.is_empty() || !self.may_renew {
            return Ok(answers);
        }
        self.renew()?;
        let again = self.send(vault, rejected.iter().filter_map(|index| urls.get(*index)));
        for (index, answer) in rejected.into_iter().zip(again) {
            if let Some(place) = answers.get_mut(index) {
                *place = answer;
            }
        }
        Ok(answers)
    }

    fn renew(&mut self) -> Result<(), Failure> {
        let id = request_id(&self.request.entropy, 1);
        self.token = self.credentials.sign_in(self.http, self.settings, self.request.now, &id)?;
        (self.is_kept, self.may_renew) = (false, false);
        Ok(())
    }

    fn send<'u>(&mut self, vault: &Vault, urls: impl Iterator<Item = &'u String>) -> Answers {
        let id = request_id(&self.request.entropy, self.batches.wrapping_add(2));
        self.batches = self.batches.wrapping_add(1);
        let requests: Vec<_> = urls.map(|url| Vault::request(url.clone(), &self.token, &id)).collect();
        let count = requests.len();
        let is_last = self.settings.failover.as_ref().is_none_or(|failover| failover == vault);
        let answers =
            if is_last { self.http.send(requests) } else { self.http.send_impatiently(requests, IMPATIENCE_MS) };
        let mut answers = answers.into_iter();
        let mut next = || answers.next().unwrap_or_else(|| Err(Error::Protocol("no answer".into())));
        (0..count).map(|_| next().map_err(|error| refusal::explain_error(&error, vault.host()))).collect()
    }

    /// The positions of those answers that a new token may turn into content. An answer whose challenge is not to be
    /// believed becomes a failure.
    fn rejected(&self, vault: &Vault, answers: &mut Answers) -> Vec<usize> {
        let domain = &self.settings.cloud.vault_domain;
        let mut rejected = Vec::new();
        for (index, answer) in answers.iter_mut().enumerate() {
            let Ok(response) = answer else { continue };
            if response.status != 401 {
                continue;
            }
            match challenge::judge(response, domain) {
                Verdict::Expected => rejected.push(index),
                // A kept token may have been revoked; one that was made a moment ago was not.
                Verdict::Unclear if self.is_kept => rejected.push(index),
                Verdict::Unclear => {}
                Verdict::Foreign(resource) => *answer = Err(self.refuse_foreign(vault, &resource)),
            }
        }
        rejected
    }

    fn refuse_foreign(&self, vault: &Vault, resource: &str) -> Explained {
        let (host, own) = (vault.host(), self.settings.cloud.vault_resource());
        let cause = format!(
            "{host} asks for a token for `{resource}`, which is not the resource {own} of its cloud; none is sent: check \
             cloudName, and who answers for the vault"
        );
        (FailureKind::Unauthenticated, cause)
    }
}

/// Whose token it is: everything that decides who the vault sees. One line, because the client id is made one.
fn owner(settings: &Settings, credentials: &Credentials) -> String {
    format!("{} {}", settings.session_key(), credentials.client_id().escape_default())
}

/// An id by which logs of both sides can be compared, another one for each `part`: UUID version 4 (RFC 9562).
fn request_id(entropy: &[u8; 32], part: u8) -> String {
    let mut bytes = [0; 16];
    for (place, byte) in bytes.iter_mut().zip(entropy) {
        *place = *byte;
    }
    let [first, .., version, _, variant, _, _, _, _, _, _, _] = &mut bytes;
    *first = first.wrapping_add(part);
    *version = *version & 0x0f | 0x40;
    *variant = *variant & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let part = |range| hex.get(range).unwrap_or_default();
    [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)].join("-")
}
