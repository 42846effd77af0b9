//! One mount: sign in unless a token was kept, ask for every object at once, turn the answers into files.
//!
//! At most four calls of [`Http::send`]: token, objects, and, when the vault rejects the token, both once more for the
//! objects that it rejected. All objects or none; every object that failed is in the failure. `guest` and native
//! callers come in here.

use std::collections::HashMap;

use zeroize::Zeroizing;

use crate::content;
use crate::failure::{Failure, FailureKind, ObjectFailure, tidy};
use crate::http::{Error, Http, Response};
use crate::identity::Credentials;
use crate::objects::Object;
use crate::parameters::{Judged, Settings, judge};
use crate::provider::{File, ObjectVersion, Outcome, Request};
use crate::token::Token;
use crate::vault::answer::{Answer, Attributes};
use crate::vault::challenge::{self, Verdict};
use crate::vault::refusal::{self, Asked, Explained};

/// Fetches everything that the parameters ask for.
///
/// The files are always returned, also where every version is one that is mounted already: a class may have changed an
/// alias, an encoding or a permission, which no version shows. The host compares contents and writes nothing when they
/// are equal.
///
/// # Errors
/// Every mistake of the parameters or every object that failed, in one [`Failure`].
pub fn mount(request: &Request, http: &impl Http) -> Result<Outcome, Failure> {
    let Judged { settings, mistakes, remarks } = judge(&request.parameters);
    let settings = settings.ok_or_else(|| Failure::of_mistakes(&mistakes))?;
    let credentials = settings.identity.credentials(request)?;
    let reads = Reads::new(&settings.objects);
    let visit = Visit { http, settings: &settings, credentials: &credentials, request, reads };
    let (token, answers) = visit.fetch()?;
    let session = token.keep(&visit.owner(), request.now);
    let mut outcome = visit.collect(answers)?;
    outcome.session = session;
    outcome.remarks.splice(0..0, remarks);
    Ok(outcome)
}

/// What one mount works with.
struct Visit<'v, H> {
    http: &'v H,
    settings: &'v Settings,
    credentials: &'v Credentials,
    request: &'v Request,
    reads: Reads<'v>,
}

/// What to ask the vault for: each object once, whatever the number of files it becomes.
struct Reads<'v> {
    objects: Vec<&'v Object>,
    /// For each object of the class the position in `objects`.
    positions: Vec<usize>,
}

/// The answers to [`Reads::objects`], in their order.
type Answers = Vec<Result<Response, Explained>>;

impl<'v> Reads<'v> {
    fn new(wanted: &'v [Object]) -> Self {
        let mut reads = Self { objects: Vec::new(), positions: Vec::new() };
        let mut known = HashMap::new();
        for object in wanted {
            let next = reads.objects.len();
            let key = (object.kind.collection(), object.name.as_str(), object.version.as_str());
            let position = *known.entry(key).or_insert(next);
            if position == next {
                reads.objects.push(object);
            }
            reads.positions.push(position);
        }
        reads
    }
}

impl<H: Http> Visit<'_, H> {
    /// The answers, and the token that brought them.
    fn fetch(&self) -> Result<(Token, Answers), Failure> {
        let kept = self.request.session.as_ref();
        let kept = kept.and_then(|session| Token::restore(session, &self.owner(), self.request.now));
        let is_kept = kept.is_some();
        let token = kept.map_or_else(|| self.sign_in(0), Ok)?;
        let mut answers = self.send(&self.reads.objects, &token);
        let rejected = self.rejected(&mut answers, is_kept);
        if rejected.is_empty() {
            return Ok((token, answers));
        }
        let token = self.sign_in(1)?;
        let again: Vec<&Object> = rejected.iter().filter_map(|i| self.reads.objects.get(*i).copied()).collect();
        for (index, answer) in rejected.into_iter().zip(self.send(&again, &token)) {
            if let Some(place) = answers.get_mut(index) {
                *place = answer;
            }
        }
        Ok((token, answers))
    }

    fn sign_in(&self, attempt: u8) -> Result<Token, Failure> {
        let id = self.request_id(attempt);
        self.credentials.sign_in(self.http, self.settings, self.request.now, &id)
    }

    fn send(&self, objects: &[&Object], token: &Token) -> Answers {
        let vault = &self.settings.vault;
        let id = self.request_id(2);
        let requests = objects.iter().map(|object| vault.read(object, token, &id)).collect();
        let mut answers = self.http.send(requests).into_iter();
        let mut next = || answers.next().unwrap_or_else(|| Err(Error::Protocol("no answer".into())));
        objects.iter().map(|_| next().map_err(|error| refusal::explain_error(&error, vault.host()))).collect()
    }

    /// The positions of those answers that a new token may turn into content. An answer whose challenge is not to be
    /// believed becomes a failure.
    fn rejected(&self, answers: &mut Answers, is_kept: bool) -> Vec<usize> {
        let domain = self.settings.cloud.vault_domain;
        let mut rejected = Vec::new();
        for (index, answer) in answers.iter_mut().enumerate() {
            let Ok(response) = answer else { continue };
            if response.status != 401 {
                continue;
            }
            match challenge::judge(response, domain) {
                Verdict::Expected => rejected.push(index),
                // A kept token may have been revoked; one that was made a moment ago was not.
                Verdict::Unclear if is_kept => rejected.push(index),
                Verdict::Unclear => {}
                Verdict::Foreign(resource) => *answer = Err(self.refuse_foreign(&resource)),
            }
        }
        rejected
    }

    fn refuse_foreign(&self, resource: &str) -> Explained {
        let host = self.settings.vault.host();
        let own = self.settings.cloud.vault_resource();
        let cause = format!(
            "{host} asks for a token for `{resource}`, which is not the resource {own} of its cloud; none is sent: check \
             cloudName, and who answers for the vault"
        );
        (FailureKind::Unauthenticated, cause)
    }

    /// Every file, or every failure.
    fn collect(&self, answers: Answers) -> Result<Outcome, Failure> {
        let mut failed = Vec::new();
        let mut bodies = Vec::new();
        for (object, answer) in self.reads.objects.iter().zip(answers) {
            match answer.and_then(|response| self.accept(object, response)) {
                Ok(body) => bodies.push(Some(body)),
                Err((kind, cause)) => {
                    failed.push(ObjectFailure { object: describe(object), kind, cause });
                    bodies.push(None);
                }
            }
        }
        let mut outcome = Outcome { files: Vec::new(), objects: Vec::new(), session: None, remarks: Vec::new() };
        for (object, position) in self.settings.objects.iter().zip(&self.reads.positions) {
            let Some(Some(body)) = bodies.get(*position) else { continue };
            if let Err((kind, cause)) = self.add(&mut outcome, object, body) {
                failed.push(ObjectFailure { object: describe(object), kind, cause });
            }
        }
        if !failed.is_empty() {
            return Err(Failure::of_objects(failed));
        }
        keep_last(&mut outcome.files, |file| &file.path);
        keep_last(&mut outcome.objects, |object| &object.id);
        Ok(outcome)
    }

    /// The body of a 200.
    fn accept(&self, object: &Object, response: Response) -> Result<Zeroizing<Vec<u8>>, Explained> {
        if response.status == 200 {
            return Ok(Zeroizing::new(response.body));
        }
        let principal = self.credentials.describe();
        Err(refusal::explain(&response, &Asked { object, vault: self.settings.vault.host(), principal: &principal }))
    }

    fn add(&self, outcome: &mut Outcome, object: &Object, body: &[u8]) -> Result<(), Explained> {
        let answer = Answer::read(object.kind, body).map_err(|error| (FailureKind::Internal, error.to_string()))?;
        outcome.remarks.extend(self.remark_lifetime(object, answer.attributes));
        let contents = content::render(answer.content, object).map_err(|error| (error.kind(), error.to_string()))?;
        outcome.files.push(File { path: object.path.clone(), mode: object.mode, contents });
        outcome.objects.push(ObjectVersion { id: object.id(), version: answer.version });
        Ok(())
    }

    /// A vault hands out what has expired or is not valid yet; its user should know.
    fn remark_lifetime(&self, object: &Object, attributes: Attributes) -> Option<String> {
        let now = i64::try_from(self.request.now).unwrap_or(i64::MAX);
        if attributes.exp.is_some_and(|end| end <= now) {
            Some(format!("{} has expired, and is mounted all the same", describe(object)))
        } else if attributes.nbf.is_some_and(|start| start > now) {
            Some(format!("{} is not valid yet, and is mounted all the same", describe(object)))
        } else {
            None
        }
    }

    /// Whose token it is: everything that decides who the vault sees. One line, because the client id is made one.
    fn owner(&self) -> String {
        let client_id = self.credentials.client_id();
        format!("{} {}", self.settings.session_key(), client_id.escape_default())
    }

    /// An id by which logs of both sides can be compared, another one for each `part`: UUID version 4 (RFC 9562).
    fn request_id(&self, part: u8) -> String {
        let mut bytes = [0; 16];
        for (place, byte) in bytes.iter_mut().zip(self.request.entropy) {
            *place = byte;
        }
        let [first, .., version, _, variant, _, _, _, _, _, _, _] = &mut bytes;
        *first = first.wrapping_add(part);
        *version = *version & 0x0f | 0x40;
        *variant = *variant & 0x3f | 0x80;
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let part = |range| hex.get(range).unwrap_or_default();
        [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)].join("-")
    }
}

/// The object as messages call it.
fn describe(object: &Object) -> String {
    let id = object.id();
    tidy(&if object.version.is_empty() { id } else { format!("{id}/{}", object.version) }, 127)
}

/// Drops every item whose key comes again later: the driver keeps the last one as well.
fn keep_last<T>(items: &mut Vec<T>, key: impl Fn(&T) -> &String) {
    let last: HashMap<String, usize> =
        items.iter().enumerate().map(|(index, item)| (key(item).clone(), index)).collect();
    let mut index = 0..;
    items.retain(|item| last.get(key(item)).copied() == index.next());
}
