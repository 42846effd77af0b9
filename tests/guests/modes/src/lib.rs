//! One provider, many behaviours, most of them hostile. The parameter `mode` of the class chooses, see `modes.rs`.
//!
//! Every mode does what its name says as well as a guest can: a test must fail when the limit that it is about is
//! taken away. Nothing here ships.

// The macro's output holds the exports of the component, which are unsafe by nature, and no documentation.
#[allow(missing_docs, unsafe_code, unused_qualifications, reason = "generated")]
mod contract {
    wit_bindgen::generate!({ world: "provider", path: "../../../wit" });
    export!(Modes with_types_in self);
    use super::Modes;
}

#[macro_use]
#[path = "../modes.rs"]
mod modes;

mod asking;
mod greedy;
mod honest;
mod leaking;
mod writing;

use contract::coffer::provider::types::{
    Checked, Explanation, Failure, File, Mounted, ObjectVersion, Outcome, Request, Scope,
};

struct Modes;

impl contract::Guest for Modes {
    fn check(parameters: Vec<(String, String)>) -> Result<Checked, Failure> {
        let mode = parameter(&parameters, "mode").unwrap_or_default();
        match mode {
            "refuses_its_parameters" => return Err(invalid("the parameters are not to my taste")),
            "loops_for_ever_in_check" => greedy::spin_for_ever(),
            "asks_inside_check" => return Err(invalid(&asking::first_answer(&parameters))),
            _ => {}
        }
        let scope = if mode == "says_that_its_scope_is_pod" { Scope::Pod } else { Scope::ServiceAccount };
        Ok(Checked { scope, session_key: mode.to_owned(), remarks: Vec::new() })
    }

    fn mount(request: Request) -> Result<Outcome, Failure> {
        let mode = parameter(&request.parameters, "mode").unwrap_or_default().to_owned();
        mount(&mode, &request)
    }
}

/// Makes `mount`, which calls the function of each mode, in whatever file it stands.
macro_rules! call_the_mode {
    ($($(#[doc = $about:literal])+ $mode:ident,)+) => {
        fn mount(mode: &str, request: &Request) -> Answer {
            use {asking::*, greedy::*, honest::*, leaking::*, writing::*};
            match mode {
                $(stringify!($mode) => $mode(request),)+
                other => Err(invalid(&format!("there is no mode '{other}'"))),
            }
        }
    };
}
for_each_mode!(call_the_mode);

/// What every mode gives.
type Answer = Result<Outcome, Failure>;

fn parameter<'a>(parameters: &'a [(String, String)], key: &str) -> Option<&'a str> {
    parameters.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
}

fn invalid(message: &str) -> Failure {
    Failure::InvalidRequest(Explanation { message: message.to_owned() })
}

fn file(path: &str, contents: Vec<u8>) -> File {
    File { path: path.to_owned(), mode: None, contents }
}

fn version(version: &str) -> ObjectVersion {
    ObjectVersion { id: "object".to_owned(), version: version.to_owned() }
}

/// A volume with these files and one object.
fn files(files: Vec<File>) -> Answer {
    Ok(Outcome::Files(Mounted { files, objects: vec![version("1")], session: None }))
}
