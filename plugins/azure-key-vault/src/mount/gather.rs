//! Everything that a class asks of one vault, in as few batches as there can be.
//!
//! The first batch asks for every list of versions or names and for every object of which the class wants one version, each
//! once. The second asks for the versions that the lists named; a list of several pages adds a batch for each. What
//! fails is noted and the rest is asked for all the same, so that all that fails is known in the end.

use std::collections::HashMap;

use zeroize::Zeroizing;

use super::conversation::Conversation;
use crate::failure::{Failure, FailureKind, tidy};
use crate::http::{Http, Response};
use crate::objects::{Kind, Object};
use crate::vault::Vault;
use crate::vault::list::{Entry, List};
use crate::vault::refusal::{self, Asked, Explained};

/// Secrets that one pattern may choose. Each is a request, and the grant limits those of a call.
const MAX_CHOSEN: usize = 200;

/// The body of a 200, or why there is none.
type Body = Result<Zeroizing<Vec<u8>>, Explained>;

/// What was gathered: for each object of the class its versions, or why there are none.
pub(super) struct Gathered<'g> {
    pub(super) objects: Vec<(&'g Object, Result<Vec<Piece>, Explained>)>,
    bodies: Vec<Option<Body>>,
}

/// One version of an object.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) name: String,
    /// The version that was asked for; empty for the current one.
    pub(super) version: String,
    /// Its place in the object's folder; none where the object is one file.
    pub(super) index: Option<usize>,
    /// Where its body is.
    body: usize,
}

impl Gathered<'_> {
    /// Why the vault is unavailable, if it is for any object.
    pub(super) fn outage(&self) -> Option<&str> {
        let bodies = self.bodies.iter().flatten().filter_map(|body| body.as_ref().err());
        let mut all = bodies.chain(self.objects.iter().filter_map(|(_, pieces)| pieces.as_ref().err()));
        all.find(|(kind, _)| *kind == FailureKind::Unavailable).map(|(_, cause)| cause.as_str())
    }

    /// The body of a piece.
    pub(super) fn body(&self, piece: &Piece) -> Result<&[u8], Explained> {
        match self.bodies.get(piece.body).and_then(Option::as_ref) {
            Some(Ok(body)) => Ok(body),
            Some(Err(explained)) => Err(explained.clone()),
            None => Err((FailureKind::Internal, "it was not asked for".into())),
        }
    }
}

/// Gathers what these objects ask of a vault.
///
/// # Errors
/// The token had to be renewed and that failed.
pub(super) fn gather<'g, H: Http>(
    conversation: &mut Conversation<'_, H>,
    vault: &'g Vault,
    objects: &'g [Object],
) -> Result<Gathered<'g>, Failure> {
    let mut gather = Gather { vault, lists: Vec::new(), reads: Vec::new(), bodies: Vec::new(), known: HashMap::new() };
    let mut gathered = Vec::new();
    for object in objects {
        let plan = if object.is_folder() {
            Plan::List(gather.list(object))
        } else {
            Plan::Pieces(vec![gather.piece(object.kind, &object.name, &object.version, None)])
        };
        gathered.push((object, plan));
    }
    while gather.ask(conversation)? {
        for (object, plan) in &mut gathered {
            let Plan::List(list) = *plan else { continue };
            if let Some(chosen) = gather.choose(object, list) {
                *plan = match chosen {
                    Ok(pieces) => Plan::Pieces(pieces),
                    Err(explained) => Plan::Failed(explained),
                };
            }
        }
    }
    let objects = gathered.into_iter().map(|(object, plan)| (object, plan.finish())).collect();
    Ok(Gathered { objects, bodies: gather.bodies })
}

/// How far one object is.
enum Plan {
    /// Waits for the list at this position.
    List(usize),
    Pieces(Vec<Piece>),
    Failed(Explained),
}

impl Plan {
    fn finish(self) -> Result<Vec<Piece>, Explained> {
        match self {
            Self::Pieces(pieces) => Ok(pieces),
            Self::Failed(explained) => Err(explained),
            Self::List(_) => Err((FailureKind::Internal, "the list of its versions was not read to its end".into())),
        }
    }
}

struct Gather<'g> {
    vault: &'g Vault,
    lists: Vec<Listing<'g>>,
    reads: Vec<Read>,
    /// The answers to `reads`, as far as they were sent.
    bodies: Vec<Option<Body>>,
    known: HashMap<(Kind, String, String), usize>,
}

/// The versions of one object, or the names that it chooses from.
struct Listing<'g> {
    object: &'g Object,
    list: Result<List, Explained>,
}

/// One version of one object.
struct Read {
    kind: Kind,
    name: String,
    version: String,
}

impl<'g> Gather<'g> {
    /// The position of the list that an object chooses from.
    fn list(&mut self, object: &'g Object) -> usize {
        let same = |listing: &Listing<'_>| {
            let (one, other) = (listing.object, object);
            let both_names = one.selection.is_some() && other.selection.is_some();
            let both_versions = one.selection.is_none() && other.selection.is_none() && one.name == other.name;
            one.kind == other.kind && (both_names || both_versions)
        };
        if let Some(position) = self.lists.iter().position(same) {
            return position;
        }
        let list = match object.selection {
            Some(_) => self.vault.names(object.kind),
            None => self.vault.versions(object.kind, &object.name),
        };
        self.lists.push(Listing { object, list: Ok(list) });
        self.lists.len() - 1
    }

    fn piece(&mut self, kind: Kind, name: &str, version: &str, index: Option<usize>) -> Piece {
        let (name, version, next) = (name.to_owned(), version.to_owned(), self.reads.len());
        let body = *self.known.entry((kind, name.clone(), version.clone())).or_insert(next);
        if body == next {
            self.reads.push(Read { kind, name: name.clone(), version: version.clone() });
            self.bodies.push(None);
        }
        Piece { name, version, index, body }
    }

    /// Sends everything that can be asked for now; false if that is nothing.
    fn ask<H: Http>(&mut self, conversation: &mut Conversation<'_, H>) -> Result<bool, Failure> {
        let open = |(position, listing): (usize, &Listing<'_>)| Some((position, listing.list.as_ref().ok()?.next()?));
        let lists: Vec<(usize, String)> = self.lists.iter().enumerate().filter_map(open).collect();
        let unread: Vec<usize> =
            (0..self.reads.len()).filter(|at| matches!(self.bodies.get(*at), Some(None))).collect();
        if lists.is_empty() && unread.is_empty() {
            return Ok(false);
        }
        let mut urls: Vec<String> = lists.iter().map(|(_, url)| url.clone()).collect();
        let reads = unread.iter().filter_map(|at| self.reads.get(*at));
        urls.extend(reads.map(|read| self.vault.object(read.kind, &read.name, &read.version)));
        let mut answers = conversation.ask(self.vault, &urls)?.into_iter();
        let principal = conversation.credentials.describe();
        for ((position, _), answer) in lists.into_iter().zip(answers.by_ref()) {
            self.turn_page(position, answer, &principal);
        }
        for (at, answer) in unread.into_iter().zip(answers) {
            let Some(read) = self.reads.get(at) else { continue };
            let asked = self.asked(read.kind, &read.version, "Get", &principal);
            let body = answer.and_then(|response| accept(response, &asked));
            if let Some(place) = self.bodies.get_mut(at) {
                *place = Some(body);
            }
        }
        Ok(true)
    }

    fn turn_page(&mut self, position: usize, answer: Result<Response, Explained>, principal: &str) {
        let Some(listing) = self.lists.get(position) else { return };
        let asked = self.asked(listing.object.kind, "", "List", principal);
        let body = answer.and_then(|response| accept(response, &asked));
        let Some(listing) = self.lists.get_mut(position) else { return };
        let Ok(list) = &mut listing.list else { return };
        let turned = body.and_then(|body| list.add(&body).map_err(|error| (FailureKind::Internal, error.to_string())));
        if let Err(explained) = turned {
            listing.list = Err(explained);
        }
    }

    /// What an object wants of its list, once that is complete.
    fn choose(&mut self, object: &'g Object, list: usize) -> Option<Result<Vec<Piece>, Explained>> {
        let list = match &self.lists.get(list)?.list {
            Ok(list) if list.next().is_some() => return None,
            Ok(list) => list,
            Err(explained) => return Some(Err(explained.clone())),
        };
        if let Some(selection) = &object.selection {
            let chosen = list.entries().iter().filter(|entry| selection.takes(&entry.name, &entry.tags));
            let chosen: Vec<Entry> = chosen.cloned().collect();
            return Some(self.take_names(object, &chosen));
        }
        let chosen = list.newest(&object.version, object.versions);
        if chosen.is_empty() {
            return Some(Err(self.no_version(object)));
        }
        let chosen = chosen.iter().enumerate();
        let piece =
            |(index, entry): (usize, &Entry)| self.piece(object.kind, &object.name, &entry.version, Some(index));
        Some(Ok(chosen.map(piece).collect()))
    }

    fn take_names(&mut self, object: &Object, chosen: &[Entry]) -> Result<Vec<Piece>, Explained> {
        let host = self.vault.host();
        match chosen.len() {
            0 => Err((FailureKind::NotFound, format!("{host} has no enabled secret with such a name and such tags"))),
            1..=MAX_CHOSEN => Ok(chosen.iter().map(|entry| self.piece(object.kind, &entry.name, "", None)).collect()),
            many => {
                let cause =
                    format!("{many} secrets of {host} match, and {MAX_CHOSEN} may: narrow the pattern or the tags");
                Err((FailureKind::InvalidRequest, cause))
            }
        }
    }

    fn no_version(&self, object: &Object) -> Explained {
        let host = self.vault.host();
        let cause = if object.version.is_empty() {
            format!(
                "{host} has no enabled version of it: check objectName and objectType, or recover it if it was deleted"
            )
        } else {
            format!(
                "{host} has no enabled version {} of it to start from: check objectVersion, or leave it empty for the \
                 newest",
                tidy(&object.version, 60)
            )
        };
        (FailureKind::NotFound, cause)
    }

    fn asked<'a>(&'a self, kind: Kind, version: &'a str, permission: &'static str, principal: &'a str) -> Asked<'a> {
        Asked { kind, version, permission, vault: self.vault.host(), principal }
    }
}

fn accept(response: Response, asked: &Asked<'_>) -> Body {
    if response.status == 200 {
        return Ok(Zeroizing::new(response.body));
    }
    Err(refusal::explain(&response, asked))
}

/// An object as messages call it, its version included if the class or a list named it.
pub(super) fn describe(id: &str, version: &str) -> String {
    tidy(&if version.is_empty() { id.to_owned() } else { format!("{id}/{version}") }, 127)
}
