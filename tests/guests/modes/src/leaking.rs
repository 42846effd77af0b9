//! Modes that put the pod's token where people would see it.

use crate::contract::coffer::provider::log;
use crate::contract::coffer::provider::types::{Explanation, Failure, Mounted, Outcome, Request};
use crate::{Answer, asking, file, files, honest, version};

pub(crate) fn logs_its_token(request: &Request) -> Answer {
    log::write(log::Level::Error, &format!("the token is {}", token(request)));
    honest::behaves(request)
}

pub(crate) fn fails_with_its_token(request: &Request) -> Answer {
    Err(Failure::Unauthenticated(Explanation { message: format!("{} is not good", token(request)) }))
}

pub(crate) fn asks_a_path_with_its_token(request: &Request) -> Answer {
    asking::ask_each([format!("{}/{}", asking::base(request), token(request))])
}

pub(crate) fn names_a_file_after_its_token(request: &Request) -> Answer {
    files(vec![file(&format!("../{}", token(request)), b"hello".into())])
}

pub(crate) fn names_a_version_after_its_token(request: &Request) -> Answer {
    Ok(Outcome::Files(Mounted {
        files: vec![file("file", b"hello".into())],
        objects: vec![version(token(request))],
        session: None,
    }))
}

fn token(request: &Request) -> &str {
    request.tokens.first().map_or("no token", |t| t.token.as_str())
}
