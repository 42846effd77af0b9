//! The `Status` objects that the API server answers with when it does not answer with an object.

use serde_json::{Value, json};

use super::resource::Target;
use crate::harness::answer::Answer;
use crate::harness::faults::RetryAfter;

/// What is wrong with a request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Refusal {
    /// The path is not served at all: what the server says about a resource whose definition is missing.
    NoSuchPath,
    NotFound,
    AlreadyExists,
    /// Another version stands there by now.
    Conflict(String),
    /// Fields belong to other managers.
    Owned(Vec<(String, String)>),
    Invalid(Vec<String>),
    BadRequest(String),
    Unauthorized,
    Forbidden,
    UnsupportedMedia,
    MethodNotAllowed,
}

impl Refusal {
    pub(crate) fn answer(&self, target: &Target) -> Answer {
        let subject = subject(target);
        let name = &target.name;
        let (code, reason, message, causes) = match self {
            Self::NoSuchPath => {
                return Answer::empty(404)
                    .header("Content-Type", "text/plain; charset=utf-8")
                    .body("404 page not found\n");
            }
            Self::NotFound => (404, "NotFound", format!("{subject} {name:?} not found"), vec![]),
            Self::AlreadyExists => (409, "AlreadyExists", format!("{subject} {name:?} already exists"), vec![]),
            Self::Conflict(why) => {
                let message = format!("Operation cannot be fulfilled on {subject} {name:?}: {why}");
                (409, "Conflict", message, vec![])
            }
            Self::Owned(fields) => {
                let count = fields.len();
                let causes = fields.iter().map(|(manager, field)| {
                    json!({"reason": "FieldManagerConflict", "message": format!("conflict with {manager:?}"),
                        "field": field})
                });
                (409, "Conflict", format!("Apply failed with {count} conflict(s)"), causes.collect())
            }
            Self::Invalid(fields) => {
                let causes = fields.iter().map(|what| json!({"reason": "FieldValueInvalid", "message": what}));
                let message = format!("{subject} {name:?} is invalid: {}", fields.join(", "));
                (422, "Invalid", message, causes.collect())
            }
            Self::BadRequest(why) => (400, "BadRequest", why.clone(), vec![]),
            Self::Unauthorized => (401, "Unauthorized", "Unauthorized".to_owned(), vec![]),
            Self::Forbidden => (403, "Forbidden", forbidden(target), vec![]),
            Self::UnsupportedMedia => {
                (415, "UnsupportedMediaType", "the body of the request was in an unknown format".to_owned(), vec![])
            }
            Self::MethodNotAllowed => {
                (405, "MethodNotAllowed", "the server does not allow this method".to_owned(), vec![])
            }
        };
        Answer::json(u16::try_from(code).unwrap_or(500), &status(code, reason, &message, Some(target), causes))
    }
}

/// A failure of the server itself: 429, 5xx.
pub(crate) fn failing(code: u16, retry_after: Option<RetryAfter>) -> Answer {
    let (reason, message) = match code {
        429 => ("TooManyRequests", "the server has received too many requests and has asked us to try again later"),
        409 => ("Conflict", "the object has been modified; please apply your changes to the latest version"),
        503 => ("ServiceUnavailable", "the server is currently unable to handle the request"),
        504 => ("Timeout", "the server was unable to return a response in the time allotted"),
        _ => ("InternalError", "an error on the server has prevented the request from succeeding"),
    };
    let answer = Answer::json(code, &status(code.into(), reason, message, None, vec![]));
    match retry_after {
        None => answer,
        Some(RetryAfter::Seconds(seconds)) => answer.header("Retry-After", seconds.to_string()),
        Some(RetryAfter::At(time)) => answer.header("Retry-After", httpdate::fmt_http_date(time)),
    }
}

fn status(code: u64, reason: &str, message: &str, target: Option<&Target>, causes: Vec<Value>) -> Value {
    let mut details = json!({});
    if let Some(target) = target {
        details = json!({"name": target.name, "group": target.group, "kind": target.resource.plural()});
    }
    if !causes.is_empty() {
        details["causes"] = Value::Array(causes);
    }
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "details": details, "code": code,
    })
}

fn subject(target: &Target) -> String {
    let plural = target.resource.plural();
    if target.group.is_empty() { plural.to_owned() } else { format!("{plural}.{}", target.group) }
}

fn forbidden(target: &Target) -> String {
    let (subject, name, verb) = (subject(target), &target.name, target.verb.name());
    let (plural, group) = (target.resource.plural(), &target.group);
    let place = if target.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace {:?}", target.namespace)
    };
    format!(
        "{subject} {name:?} is forbidden: User \"system:serviceaccount:kube-system:coffer\" cannot {verb} resource \
         {plural:?} in API group {group:?} {place}"
    )
}
