//! One mount: sign in unless a token was kept, gather every object from the vault, turn the answers into files.
//!
//! `conversation` holds the token and `gather` knows what to ask for; here answers become files. All objects or none;
//! every object that failed is in the failure. Where the class names a second vault, it is asked for everything once
//! the first is unavailable for anything, so that no volume mixes the two. `guest` and native callers come in here.

mod conversation;
mod gather;

use std::collections::HashMap;

use crate::content::{self, Work};
use crate::failure::{Failure, FailureKind, ObjectFailure};
use crate::http::Http;
use crate::objects::Object;
use crate::parameters::{Judged, Settings, judge_request};
use crate::provider::{File, ObjectVersion, Outcome, Request};
use crate::vault::Vault;
use crate::vault::answer::{Answer, Attributes};
use crate::vault::refusal::Explained;
use conversation::Conversation;
use gather::{Gathered, Piece, describe, gather};

/// Fetches everything that the parameters ask for.
///
/// The files are always returned, also where every version is one that is mounted already: a class may have changed an
/// alias, an encoding or a permission, which no version shows. The host compares contents and writes nothing when they
/// are equal.
///
/// # Errors
/// Every mistake of the parameters or every object that failed, in one [`Failure`].
pub fn mount(request: &Request, http: &impl Http) -> Result<Outcome, Failure> {
    let Judged { settings, mistakes, remarks, .. } = judge_request(request);
    let settings = settings.ok_or_else(|| Failure::of_mistakes(&mistakes))?;
    let credentials = settings.identity.credentials(request)?;
    let mut conversation = Conversation::open(http, &settings, &credentials, request)?;
    let gathered = gather(&mut conversation, &settings.vault, &settings.objects)?;
    let mut work = Work::default();
    let mut outcome = match (&settings.failover, gathered.outage()) {
        (Some(failover), Some(cause)) => {
            let instead = gather(&mut conversation, failover, &settings.objects)?;
            let remark = format!("{cause}; everything comes from {} instead", failover.host());
            let harvested = Harvest::of(&instead, failover, &settings, request, &mut work).map(|mut outcome| {
                outcome.remarks.insert(0, remark);
                outcome
            });
            harvested.map_err(|other| match Harvest::of(&gathered, &settings.vault, &settings, request, &mut work) {
                Err(failure) => failure.beside(&other),
                Ok(_) => other,
            })?
        }
        _ => Harvest::of(&gathered, &settings.vault, &settings, request, &mut work)?,
    };
    outcome.session = conversation.keep();
    outcome.remarks.splice(0..0, remarks);
    Ok(outcome)
}

/// Files, as they come in, and what failed.
struct Harvest<'h> {
    vault: &'h Vault,
    settings: &'h Settings,
    request: &'h Request,
    work: &'h mut Work,
    outcome: Outcome,
    failed: Vec<ObjectFailure>,
}

impl<'h> Harvest<'h> {
    /// Everything that was gathered from a vault, or every failure.
    fn of(
        gathered: &Gathered<'_>,
        vault: &'h Vault,
        settings: &'h Settings,
        request: &'h Request,
        work: &'h mut Work,
    ) -> Result<Outcome, Failure> {
        let outcome = Outcome { files: Vec::new(), objects: Vec::new(), session: None, remarks: Vec::new() };
        let mut harvest = Self { vault, settings, request, work, outcome, failed: Vec::new() };
        harvest.bring_in(gathered);
        let Self { mut outcome, failed, .. } = harvest;
        if !failed.is_empty() {
            return Err(Failure::of_objects(failed));
        }
        keep_last(&mut outcome.files, |file| &file.path);
        keep_last(&mut outcome.objects, |object| &object.id);
        Ok(outcome)
    }

    fn bring_in(&mut self, gathered: &Gathered<'_>) {
        for (object, pieces) in &gathered.objects {
            match pieces {
                Ok(pieces) => {
                    for piece in pieces {
                        let added = gathered.body(piece).and_then(|body| self.add(object, piece, body));
                        let shown = describe(&id_of(object, piece), &piece.version);
                        added.unwrap_or_else(|explained| self.give_up(object, shown, explained));
                    }
                }
                Err(explained) => self.give_up(object, describe(&object.id(), ""), explained.clone()),
            }
        }
    }

    fn give_up(&mut self, object: &Object, shown: String, (kind, cause): Explained) {
        if object.optional && kind == FailureKind::NotFound {
            let host = self.vault.host();
            return self.remark(format!("{shown} is not in {host}; it is optional, so its file is left out"));
        }
        let failed = ObjectFailure { object: shown, kind, cause };
        // Two files of one object fail for one cause.
        if !self.failed.contains(&failed) {
            self.failed.push(failed);
        }
    }

    fn add(&mut self, object: &Object, piece: &Piece, body: &[u8]) -> Result<(), Explained> {
        let answer = Answer::read(object.kind, body).map_err(|error| (FailureKind::Internal, error.to_string()))?;
        let id = id_of(object, piece);
        let shown = describe(&id, &piece.version);
        if let Some(remark) = self.judge_lifetime(answer.attributes) {
            self.remark(format!("{shown} {remark}, and is mounted all the same"));
        }
        let rendered = content::render(answer.content, object, self.settings.content, self.work);
        let rendered = rendered.map_err(|error| (error.kind(), error.to_string()))?;
        if let Some(remark) = rendered.remark {
            self.remark(format!("{shown}: {remark}"));
        }
        let numbered = |text: &str| piece.index.map_or_else(|| text.to_owned(), |index| format!("{text}/{index}"));
        for (suffix, contents) in rendered.files {
            let path = format!("{}{suffix}", numbered(&path_of(object, piece)));
            self.outcome.files.push(File { path, mode: object.mode, contents });
        }
        for (part, contents) in object.parts.iter().zip(rendered.parts) {
            let mode = part.mode.or(object.mode);
            self.outcome.files.push(File { path: numbered(&part.path), mode, contents });
        }
        self.outcome.objects.push(ObjectVersion { id: numbered(&id), version: answer.version });
        Ok(())
    }

    fn remark(&mut self, remark: String) {
        if !self.outcome.remarks.contains(&remark) {
            self.outcome.remarks.push(remark);
        }
    }

    /// A vault hands out what has expired or is not valid yet; its user should know.
    fn judge_lifetime(&self, attributes: Attributes) -> Option<&'static str> {
        let now = i64::try_from(self.request.now).unwrap_or(i64::MAX);
        if attributes.exp.is_some_and(|end| end <= now) {
            Some("has expired")
        } else if attributes.nbf.is_some_and(|start| start > now) {
            Some("is not valid yet")
        } else {
            None
        }
    }
}

/// `<objectType>/<name>`, also where a pattern chose the name.
fn id_of(object: &Object, piece: &Piece) -> String {
    format!("{}/{}", object.kind.name(), piece.name)
}

/// The file, or the folder of several versions.
fn path_of(object: &Object, piece: &Piece) -> String {
    match (&object.selection, object.path.as_str()) {
        (None, path) => path.to_owned(),
        (Some(_), "") => piece.name.clone(),
        (Some(_), folder) => format!("{folder}/{}", piece.name),
    }
}

/// Drops every item whose key comes again later: the driver keeps the last one as well.
fn keep_last<T>(items: &mut Vec<T>, key: impl Fn(&T) -> &String) {
    let last: HashMap<String, usize> =
        items.iter().enumerate().map(|(index, item)| (key(item).clone(), index)).collect();
    let mut index = 0..;
    items.retain(|item| last.get(key(item)).copied() == index.next());
}
