//! A class, and HTTP that answers whatever a target wants answered.

use std::cell::RefCell;

use coffer_azure_key_vault::http::{Error, Http, Request, Response};
use coffer_azure_key_vault::{Failure, Outcome, Parameters, Secret, mount};

use crate::promises;

/// The vault of [`class`].
pub const VAULT: &str = "https://kv1.vault.azure.net/";
/// Where [`class`] signs in.
pub const LOGIN: &str = "https://login.microsoftonline.com/";
/// The token that [`token`] gives.
pub const TOKEN: &str = "t-1";

/// What became of a mount.
pub struct Mounted {
    pub result: Result<Outcome, Failure>,
    /// Every request, in order.
    pub requests: Vec<Request>,
}

impl Mounted {
    /// The content of a file.
    pub fn file(&self, path: &str) -> Option<&[u8]> {
        let files = &self.result.as_ref().ok()?.files;
        files.iter().find(|file| file.path == path).map(|file| file.contents.as_slice())
    }

    /// The content of a file that holds text.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.file(path).map(|contents| std::str::from_utf8(contents).expect("the file is text"))
    }

    /// Bytes of all files together.
    pub fn size(&self) -> usize {
        self.result.as_ref().map(|outcome| outcome.files.iter().map(|file| file.contents.len()).sum()).unwrap_or(0)
    }
}

struct Wire<F> {
    answer: F,
    requests: RefCell<Vec<Request>>,
}

impl<F: Fn(&Request, usize) -> Response> Http for Wire<F> {
    fn send(&self, requests: Vec<Request>) -> Vec<Result<Response, Error>> {
        let answer = |request: Request| {
            let mut before = self.requests.borrow_mut();
            let answer = (self.answer)(&request, before.len());
            before.push(request);
            Ok(answer)
        };
        requests.into_iter().map(answer).collect()
    }
}

/// Mounts; `answer` gets each request and the number of those before. What holds for every mount is checked here.
pub fn mount_request(
    request: &coffer_azure_key_vault::Request,
    answer: impl Fn(&Request, usize) -> Response,
) -> Mounted {
    let wire = Wire { answer, requests: RefCell::default() };
    let result = mount(request, &wire);
    let mounted = Mounted { result, requests: wire.requests.into_inner() };
    promises::check(&mounted);
    mounted
}

/// Mounts a class for which every sign-in succeeds; `vault` answers the rest.
pub fn mount_class(parameters: Parameters, vault: impl Fn(&Request, usize) -> Response) -> Mounted {
    mount_request(
        &request(parameters),
        |request, before| {
            if is_sign_in(request) { token() } else { vault(request, before) }
        },
    )
}

/// Whether a request asks for a token.
pub fn is_sign_in(request: &Request) -> bool {
    request.method == "POST"
}

/// A response with this body.
pub fn body(status: u16, body: impl Into<Vec<u8>>) -> Response {
    Response { status, headers: vec![("x-ms-request-id".into(), "r-1".into())], body: body.into() }
}

/// What Entra answers.
pub fn token() -> Response {
    body(200, format!(r#"{{"token_type":"Bearer","expires_in":3600,"access_token":"{TOKEN}"}}"#))
}

/// A class with these objects, each a list of `field: value` lines.
pub fn class(objects: &[&str]) -> Parameters {
    let element = |lines: &&str| format!("  - |\n    {}\n", lines.replace('\n', "\n    "));
    class_with(&format!("array:\n{}", objects.iter().map(element).collect::<String>()))
}

/// A class with this parameter `objects`.
pub fn class_with(objects: &str) -> Parameters {
    let pairs = [("keyvaultName", "kv1"), ("tenantID", "t"), ("objects", objects)];
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// A service principal's request for this class.
pub fn request(parameters: Parameters) -> coffer_azure_key_vault::Request {
    let secret = |text: &str| Secret::new(text.as_bytes().to_vec());
    coffer_azure_key_vault::Request {
        parameters,
        secrets: [
            ("clientid".into(), secret("1b2c3d4e-0000-4000-8000-000000000001")),
            ("clientsecret".into(), secret("hunter2")),
        ]
        .into(),
        now: 1_000,
        entropy: [7; 32],
        ..Default::default()
    }
}
