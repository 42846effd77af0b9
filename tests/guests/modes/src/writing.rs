//! Modes that want files where no file may be.

use crate::contract::coffer::provider::types::{File, Request};
use crate::{Answer, file, files, parameter};

pub(crate) fn escapes_the_volume(request: &Request) -> Answer {
    one(parameter(&request.parameters, "path").unwrap_or("../outside"))
}

pub(crate) fn writes_to_an_absolute_path(_: &Request) -> Answer {
    one("/etc/passwd")
}

pub(crate) fn writes_to_an_overlong_path(request: &Request) -> Answer {
    if parameter(&request.parameters, "whole").is_some() {
        // Seventeen components of 240 bytes with their separators are 4,096 bytes; one more is too many.
        return one(&format!("{}y", ["x".repeat(240).as_str(); 17].join("/")));
    }
    one(&"x".repeat(256))
}

pub(crate) fn writes_a_file_twice(_: &Request) -> Answer {
    files(vec![file("twice", b"one".into()), file("twice", b"two".into())])
}

pub(crate) fn writes_below_a_file(_: &Request) -> Answer {
    files(vec![file("file", b"one".into()), file("file/below", b"two".into())])
}

pub(crate) fn sets_the_setuid_bit(request: &Request) -> Answer {
    let bits = parameter(&request.parameters, "bits").and_then(|b| b.parse().ok()).unwrap_or(0o4755);
    files(vec![File { path: "file".to_owned(), mode: Some(bits), contents: b"hello".into() }])
}

fn one(path: &str) -> Answer {
    files(vec![file(path, b"hello".into())])
}
