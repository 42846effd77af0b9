//! What a provider should do.

use crate::contract::coffer::provider::types::{Explanation, Failure, Mounted, Outcome, Request, Session, Throttling};
use crate::{Answer, asking, file, files, invalid, parameter, version};

pub(crate) fn behaves(request: &Request) -> Answer {
    if parameter(&request.parameters, "url").is_some() {
        return files(vec![file("file", asking::first_answer(&request.parameters).into_bytes())]);
    }
    let contents = parameter(&request.parameters, "contents").unwrap_or("hello");
    files(vec![file("file", contents.into())])
}

pub(crate) fn says_that_its_scope_is_pod(request: &Request) -> Answer {
    behaves(request)
}

pub(crate) fn answers_unchanged(_: &Request) -> Answer {
    Ok(Outcome::Unchanged(None))
}

pub(crate) fn fails_as_told(request: &Request) -> Answer {
    let message = parameter(&request.parameters, "message").unwrap_or("as told").to_owned();
    let explanation = Explanation { message };
    Err(match parameter(&request.parameters, "failure").unwrap_or_default() {
        "invalid-request" => Failure::InvalidRequest(explanation),
        "unauthenticated" => Failure::Unauthenticated(explanation),
        "permission-denied" => Failure::PermissionDenied(explanation),
        "not-found" => Failure::NotFound(explanation),
        "throttled" => Failure::Throttled(Throttling { message: explanation.message, retry_after_seconds: Some(7) }),
        "unavailable" => Failure::Unavailable(explanation),
        "internal" => Failure::Internal(explanation),
        other => invalid(&format!("there is no failure '{other}'")),
    })
}

pub(crate) fn refuses_its_parameters(_: &Request) -> Answer {
    Err(invalid("the parameters are not to my taste"))
}

pub(crate) fn keeps_a_session(request: &Request) -> Answer {
    let mut state = request.session.clone().unwrap_or_default();
    let before = state.len();
    state.push(b'+');
    Ok(Outcome::Files(Mounted {
        files: vec![file("file", before.to_string().into_bytes())],
        objects: vec![version("1")],
        session: Some(Session { state, expires_in_seconds: 60 }),
    }))
}
