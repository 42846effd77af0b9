//! HTTP in memory: a vault and a token endpoint as functions from request to response, and a record of what was sent.

use std::cell::RefCell;

use coffer_azure_key_vault::http::{Error, Http, Request, Response};
use coffer_azure_key_vault::{Failure, Outcome, Parameters, Secret, mount};

pub type Answer = Result<Response, Error>;

/// Answers every request with a function and remembers the requests, one list for each `send`.
pub struct Wire<F> {
    answer: F,
    sent: RefCell<Vec<Vec<Request>>>,
}

impl<F: Fn(&Request, usize) -> Answer> Wire<F> {
    /// `answer` also gets the number of requests sent before.
    pub fn new(answer: F) -> Self {
        Self { answer, sent: RefCell::new(Vec::new()) }
    }

    /// The requests so far, `METHOD url`, one list for each `send`.
    pub fn batches(&self) -> Vec<Vec<String>> {
        let line = |request: &Request| format!("{} {}", request.method, request.url);
        self.sent.borrow().iter().map(|batch| batch.iter().map(line).collect()).collect()
    }

    /// The requests so far, all together.
    pub fn requests(&self) -> Vec<Request> {
        self.sent.borrow().iter().flatten().cloned().collect()
    }
}

impl<F: Fn(&Request, usize) -> Answer> Http for Wire<F> {
    fn send(&self, requests: Vec<Request>) -> Vec<Answer> {
        let before: usize = self.sent.borrow().iter().map(Vec::len).sum();
        let answers =
            requests.iter().enumerate().map(|(index, request)| (self.answer)(request, before + index)).collect();
        self.sent.borrow_mut().push(requests);
        answers
    }
}

/// A response with JSON in it.
pub fn json(status: u16, body: &str) -> Answer {
    let headers = vec![("content-type".into(), "application/json".into()), ("x-ms-request-id".into(), "r-1".into())];
    Ok(Response { status, headers, body: body.as_bytes().to_vec() })
}

/// A 401 with a challenge for this resource.
pub fn challenge(resource: &str) -> Answer {
    let value = format!("Bearer authorization=\"https://login.microsoftonline.com/t\", resource=\"{resource}\"");
    Ok(Response { status: 401, headers: vec![("www-authenticate".into(), value)], body: Vec::new() })
}

/// The answer of a token endpoint.
pub fn token(token: &str) -> Answer {
    json(200, &format!(r#"{{"token_type":"Bearer","expires_in":3600,"access_token":"{token}"}}"#))
}

/// The answer of a vault to any request for a secret: its value is `value of <name>`, its version `v-<name>`.
pub fn secret(request: &Request) -> Answer {
    let name = name_of(request);
    json(200, &format!(r#"{{"value":"value of {name}","id":"https://kv1.vault.azure.net/secrets/{name}/v-{name}"}}"#))
}

/// The object's name in the URL of a request to a vault.
pub fn name_of(request: &Request) -> &str {
    request.url.split('/').nth(4).unwrap()
}

/// Whether a request asks for a token rather than for an object.
pub fn is_sign_in(request: &Request) -> bool {
    let host = request.url.split('/').nth(2).unwrap();
    host.starts_with("login.") || host.starts_with("adfs.") || request.url.starts_with("http://")
}

/// The value of a header.
pub fn header<'r>(request: &'r Request, name: &str) -> Option<&'r str> {
    request.headers.iter().find(|(given, _)| *given == name).map(|(_, value)| value.as_str())
}

/// The fields of a form, sorted.
pub fn form(request: &Request) -> Vec<(String, String)> {
    let mut fields: Vec<_> = form_urlencoded::parse(&request.body).into_owned().collect();
    fields.sort();
    fields
}

/// A class with these objects, each a list of `field: value` lines.
pub fn class(objects: &[&str]) -> Parameters {
    let element = |lines: &&str| format!("  - |\n    {}\n", lines.replace('\n', "\n    "));
    let objects = format!("array:\n{}", objects.iter().map(element).collect::<String>());
    [("keyvaultName", "kv1"), ("tenantID", "t"), ("objects", objects.as_str())]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// The client id of [`request`]; its client secret is `hunter2`.
pub const CLIENT_ID: &str = "1b2c3d4e-0000-4000-8000-000000000001";

/// A request for this class.
pub fn request(parameters: Parameters) -> coffer_azure_key_vault::Request {
    let secret = |text: &str| Secret::new(text.as_bytes().to_vec());
    coffer_azure_key_vault::Request {
        parameters,
        secrets: [("clientid".into(), secret(CLIENT_ID)), ("clientsecret".into(), secret("hunter2"))].into(),
        now: 1_000,
        entropy: [7; 32],
        ..Default::default()
    }
}

/// A class with one secret `a` and these parameters as well; a value `-` takes one away.
pub fn class_with(changes: &[(&str, &str)]) -> Parameters {
    let mut parameters = class(&["objectName: a\nobjectType: secret"]);
    for (key, value) in changes {
        if *value == "-" {
            parameters.remove(*key);
        } else {
            parameters.insert((*key).to_owned(), (*value).to_owned());
        }
    }
    parameters
}

/// Mounts a class for which every sign-in succeeds and the vault answers with `vault`.
pub fn mount_with(parameters: Parameters, vault: impl Fn(&Request) -> Answer) -> Result<Outcome, Failure> {
    let wire = Wire::new(|request, _| if is_sign_in(request) { token("t-1") } else { vault(request) });
    mount(&request(parameters), &wire)
}

/// Paths and contents of what was mounted.
pub fn files(outcome: &Outcome) -> Vec<(&str, &str)> {
    outcome.files.iter().map(|file| (file.path.as_str(), std::str::from_utf8(&file.contents).unwrap())).collect()
}
