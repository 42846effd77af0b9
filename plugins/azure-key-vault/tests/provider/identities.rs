//! Every way to sign in: what is chosen, what is sent, who is told apart, and what a user reads when it does not work.

use coffer_azure_key_vault::http::Error;
use coffer_azure_key_vault::{
    Failure, FailureKind, Parameters, Pod, Request, Scope, ServiceAccountToken, check, mount,
};

use crate::wire::{Answer, Wire, class_with, files, form, header, is_sign_in, json, secret, token};

const WORKLOAD: &str = "api://AzureADTokenExchange";
const BINDING: &str = "api://AKSIdentityBinding";
const CLIENT: (&str, &str) = ("clientID", "2c3d4e5f-0000-4000-8000-000000000002");
const MANAGED: (&str, &str) = ("useVMManagedIdentity", "true");
const POD: (&str, &str) = ("usePodIdentity", "true");
const PROXY: (&str, &str) = ("useAzureTokenProxy", "true");
const ASSIGNED: (&str, &str) = ("userAssignedIdentityID", "ua id/1");

fn service_account_token(audience: &str, token: &str) -> ServiceAccountToken {
    ServiceAccountToken { audience: audience.into(), token: token.to_owned().into(), expires: 2_000 }
}

/// A request without a Secret and with a token for either audience.
fn request(parameters: &[(&str, &str)]) -> Request {
    Request {
        secrets: Default::default(),
        pod: Pod { name: "web-0".into(), namespace: "shop".into(), service_account: "web".into() },
        tokens: vec![service_account_token(WORKLOAD, "sa-exchange"), service_account_token(BINDING, "sa-binding")],
        ..crate::wire::request(class_with(parameters))
    }
}

/// What the NMI answers.
fn nmi(token: &str) -> Answer {
    json(
        200,
        &format!(r#"{{"token":{{"access_token":"{token}","expires_in":"3600","expires_on":"4600"}},"clientid":"c"}}"#),
    )
}

/// The one request that a way sends to sign in.
fn sign_in_of(request: &Request) -> coffer_azure_key_vault::http::Request {
    let wire = Wire::new(|request, _| match is_sign_in(request) {
        true if request.url.contains("/host/token/") => nmi("t-1"),
        true => token("t-1"),
        false => secret(request),
    });
    let outcome = mount(request, &wire).unwrap();
    assert_eq!(files(&outcome), [("a", "value of a")]);
    let mut requests = wire.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(header(&requests[1], "authorization"), Some("Bearer t-1"));
    requests.remove(0)
}

fn refused_with(request: &Request, answer: impl Fn() -> Answer) -> Failure {
    let wire = Wire::new(|request, _| if is_sign_in(request) { answer() } else { secret(request) });
    let failure = mount(request, &wire).unwrap_err();
    for token in ["sa-exchange", "sa-binding", "hunter2"] {
        assert!(!failure.message.contains(token), "{failure}");
    }
    failure
}

/// A failure before anything was sent.
fn unsent(request: &Request) -> Failure {
    let wire = Wire::new(|_, _| Err(Error::Timeout));
    let failure = mount(request, &wire).unwrap_err();
    assert!(wire.requests().is_empty());
    failure
}

fn aadsts(code: u32) -> Answer {
    let text = format!("AADSTS{code}: You sent sa-exchange. Trace ID: x");
    json(400, &format!(r#"{{"error":"invalid_client","error_description":"{text}","error_codes":[{code}]}}"#))
}

fn mistake(parameters: &[(&str, &str)]) -> String {
    let failure = check(&class_with(parameters)).unwrap_err();
    assert_eq!(failure.kind, FailureKind::InvalidRequest);
    failure.message
}

#[test]
fn each_combination_of_the_selection_table_is_its_way_to_sign_in() {
    for (parameters, mode, scope) in [
        (&[][..], "service-principal ", Scope::ServiceAccount),
        (&[("clientID", " ")], "service-principal ", Scope::ServiceAccount),
        (&[CLIENT], "workload-identity ", Scope::ServiceAccount),
        (&[MANAGED], "managed-identity ", Scope::ServiceAccount),
        (&[MANAGED, ASSIGNED], "managed-identity ", Scope::ServiceAccount),
        (&[MANAGED, CLIENT], "managed-identity ", Scope::ServiceAccount),
        (&[PROXY, CLIENT], "identity-binding ", Scope::ServiceAccount),
        (&[POD], "pod-identity ", Scope::Pod),
        (&[POD, CLIENT], "pod-identity ", Scope::Pod),
        (&[POD, ("useVMManagedIdentity", "false"), ("useAzureTokenProxy", "F")], "pod-identity ", Scope::Pod),
    ] {
        let checked = check(&class_with(parameters)).unwrap();
        assert!(checked.session_key.starts_with(mode), "{} of {parameters:?}", checked.session_key);
        assert_eq!(checked.scope, scope);
    }
}

#[test]
fn more_than_one_mode_is_refused_by_all_their_names() {
    for (flags, names) in [
        (&[POD, MANAGED][..], "usePodIdentity and useVMManagedIdentity"),
        (&[POD, PROXY], "usePodIdentity and useAzureTokenProxy"),
        (&[MANAGED, PROXY, CLIENT], "useVMManagedIdentity and useAzureTokenProxy"),
        (&[POD, MANAGED, PROXY], "usePodIdentity and useVMManagedIdentity and useAzureTokenProxy"),
    ] {
        assert_eq!(mistake(flags), format!("only one identity mode may be on, and {names} are true"));
    }
}

#[test]
fn a_flag_that_is_no_boolean_is_quoted_and_no_way_is_chosen() {
    for key in ["usePodIdentity", "useVMManagedIdentity", "useAzureTokenProxy"] {
        assert_eq!(mistake(&[(key, "yes")]), format!("failed to parse {key} flag: `yes` must be true or false"));
    }
}

#[test]
fn identity_binding_without_a_client_id_says_so() {
    assert!(mistake(&[PROXY]).starts_with("clientID is required for useAzureTokenProxy"));
}

#[test]
fn ad_fs_needs_a_custom_cloud_and_no_token_proxy_unless_nobody_asks_for_the_tenant() {
    assert!(mistake(&[("tenantID", "ADFS")]).starts_with("tenantID adfs signs in with AD FS"));
    let both = mistake(&[
        ("tenantID", "adfs"),
        PROXY,
        CLIENT,
        ("cloudName", "AzureStackCloud"),
        ("cloudEnvFileName", "/c.json"),
    ]);
    assert!(both.starts_with("tenantID adfs and useAzureTokenProxy contradict each other"), "{both}");
    assert!(check(&class_with(&[("tenantID", "adfs"), MANAGED])).is_ok());
}

#[test]
fn parameters_without_effect_are_remarked_and_stop_nothing() {
    for (parameters, words) in [
        (&[ASSIGNED][..], "userAssignedIdentityID has no effect without useVMManagedIdentity"),
        (&[ASSIGNED, CLIENT], "userAssignedIdentityID has no effect without useVMManagedIdentity"),
        (&[MANAGED, CLIENT], "the node's system-assigned identity is used"),
        (&[MANAGED, ASSIGNED, CLIENT], "clientID has no effect with useVMManagedIdentity"),
        (&[POD, CLIENT], "clientID has no effect with usePodIdentity"),
        (&[("cloudEnvFileName", "/c.json")], "cloudEnvFileName has no effect without cloudName: AzureStackCloud"),
    ] {
        let remarks = check(&class_with(parameters)).unwrap().remarks;
        assert!(remarks.len() == 1 && remarks[0].contains(words), "{remarks:?}");
    }
}

#[test]
fn the_session_key_tells_apart_whoever_a_vault_could() {
    let custom = |file| [("cloudName", "AzureStackCloud"), ("cloudEnvFileName", file)];
    let callers: [&[(&str, &str)]; 14] = [
        &[],
        &[("tenantID", "another")],
        &[("cloudName", "AzureChinaCloud")],
        &custom("/a.json"),
        &custom("/b.json"),
        &[CLIENT],
        &[("clientID", "another")],
        &[CLIENT, ("tenantID", "another")],
        &[CLIENT, PROXY],
        &[MANAGED],
        &[MANAGED, ASSIGNED],
        &[MANAGED, ("userAssignedIdentityID", "system-assigned")],
        &[MANAGED, ("cloudName", "AzureChinaCloud")],
        &[POD],
    ];
    let keys: Vec<String> = callers.iter().map(|caller| check(&class_with(caller)).unwrap().session_key).collect();
    for (index, key) in keys.iter().enumerate() {
        assert!(!keys[..index].contains(key), "{key}");
    }
    let same = check(&class_with(&[CLIENT, ("keyvaultName", "another"), ("usePodIdentity", "0")])).unwrap();
    assert_eq!(same.session_key, keys[5]);
}

#[test]
fn no_way_to_sign_in_takes_the_session_of_another() {
    let ways: [&[(&str, &str)]; 7] =
        [&[], &[CLIENT], &[("clientID", "another")], &[CLIENT, PROXY], &[MANAGED], &[MANAGED, ASSIGNED], &[POD]];
    let request_of = |way: &[(&str, &str)]| {
        let secrets = crate::wire::request(Parameters::new()).secrets;
        Request { secrets, ..request(way) }
    };
    let answer = |request: &coffer_azure_key_vault::http::Request| match is_sign_in(request) {
        true if request.url.contains("/host/token/") => nmi("t"),
        true => token("t"),
        false => secret(request),
    };
    let batches = |request: &Request| {
        let wire = Wire::new(|request, _| answer(request));
        let outcome = mount(request, &wire).unwrap();
        (wire.batches().len(), outcome.session.unwrap().state)
    };
    for one in ways {
        let (_, session) = batches(&request_of(one));
        for other in ways {
            let mut request = request_of(other);
            request.session = Some(session.clone());
            assert_eq!(batches(&request).0, if one == other { 1 } else { 2 }, "{one:?} {other:?}");
        }
    }
}

#[test]
fn another_pod_does_not_take_the_session_of_pod_identity() {
    let wire = |request: &Request| {
        let wire = Wire::new(|request, _| if is_sign_in(request) { nmi("t") } else { secret(request) });
        let session = mount(request, &wire).unwrap().session;
        (wire.batches().len(), session.unwrap().state)
    };
    let mut request = request(&[POD]);
    request.session = Some(wire(&request).1);
    assert_eq!(wire(&request).0, 1);
    request.pod.name = "web-1".into();
    assert_eq!(wire(&request).0, 2);
}

#[test]
fn workload_identity_exchanges_the_token_for_its_audience() {
    let sign_in = sign_in_of(&request(&[CLIENT]));
    assert_eq!(
        (sign_in.method, sign_in.url.as_str()),
        ("POST", "https://login.microsoftonline.com/t/oauth2/v2.0/token")
    );
    let expected = [
        ("client_assertion", "sa-exchange"),
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
        ("client_id", CLIENT.1),
        ("grant_type", "client_credentials"),
        ("scope", "https://vault.azure.net/.default"),
    ];
    assert_eq!(form(&sign_in), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[test]
fn workload_identity_ignores_a_secret_and_has_one_audience_in_every_cloud() {
    let mut request = request(&[CLIENT, ("cloudName", "AzureChinaCloud")]);
    request.secrets = crate::wire::request(Parameters::new()).secrets;
    let sign_in = sign_in_of(&request);
    assert_eq!(sign_in.url, "https://login.chinacloudapi.cn/t/oauth2/v2.0/token");
    assert_eq!(form(&sign_in)[0].1, "sa-exchange");
    assert_eq!(form(&sign_in)[4].1, "https://vault.azure.cn/.default");
}

#[test]
fn without_its_token_workload_identity_says_what_to_add_and_is_no_service_principal() {
    let mut request = request(&[CLIENT]);
    request.secrets = crate::wire::request(Parameters::new()).secrets;
    request.tokens.remove(0);
    let failure = unsent(&request);
    assert_eq!(
        failure.message,
        "token for audience api://AzureADTokenExchange not found, only for api://AKSIdentityBinding: add \
         `api://AzureADTokenExchange` to spec.tokenRequests of the CSIDriver object"
    );
    request.tokens = vec![service_account_token(WORKLOAD, "")];
    assert!(unsent(&request).message.starts_with("token for audience api://AzureADTokenExchange not found"));
    request.tokens.clear();
    let failure = unsent(&request);
    assert_eq!(failure.kind, FailureKind::InvalidRequest);
    assert!(failure.message.starts_with("service account tokens not found"), "{failure}");
}

#[test]
fn without_its_token_identity_binding_says_what_to_add() {
    let mut request = request(&[CLIENT, PROXY]);
    request.tokens.pop();
    assert!(
        unsent(&request).message.starts_with("token for audience api://AKSIdentityBinding not found, only for api:")
    );
    request.tokens.clear();
    assert!(unsent(&request).message.starts_with("service account tokens are required for identity binding"));
}

#[test]
fn an_expired_token_is_not_sent_and_asks_for_another_one() {
    let mut request = request(&[CLIENT]);
    request.now = 2_000;
    let failure = unsent(&request);
    assert_eq!(failure.kind, FailureKind::Unauthenticated);
    assert!(failure.message.contains("api://AzureADTokenExchange expired 0 seconds ago"), "{failure}");
}

#[test]
fn with_a_session_an_expired_token_does_not_matter() {
    let mut request = request(&[CLIENT]);
    let wire = Wire::new(|request, _| if is_sign_in(request) { token("t") } else { secret(request) });
    request.session = mount(&request, &wire).unwrap().session.map(|session| session.state);
    request.now = 2_001;
    assert!(mount(&request, &wire).is_ok());
}

#[test]
fn each_refusal_of_a_federated_token_has_its_advice() {
    let subject = "system:serviceaccount:shop:web";
    for (code, advice) in [
        (700_211, "a federated credential with the issuer"),
        (700_211, subject),
        (700_212, "is not api://AzureADTokenExchange"),
        (700_213, subject),
        (70_021, subject),
        (700_024, "compare the clocks"),
        (700_027, "cannot verify the service account token"),
        (700_016, "check clientID, tenantID and cloudName"),
        (90_002, "there is no such tenant"),
        (53_003, "a conditional access policy"),
    ] {
        let failure = refused_with(&request(&[CLIENT]), || aadsts(code));
        assert!(failure.message.starts_with("cannot sign in the application 2c3d4e5f-"), "{failure}");
        assert!(failure.message.contains(advice) && failure.message.contains("You sent [token]."), "{failure}");
    }
    for code in [700_211, 700_212, 700_213] {
        let failure = refused_with(&request(&[CLIENT, PROXY]), || {
            aadsts(code).map(|mut answer| {
                answer.body = String::from_utf8(answer.body).unwrap().replace("sa-exchange", "sa-binding").into_bytes();
                answer
            })
        });
        assert!(
            failure.message.contains("verb use-managed-identity") && failure.message.contains(subject),
            "{failure}"
        );
    }
}

#[test]
fn identity_binding_asks_at_the_url_of_entra_with_the_token_for_its_audience() {
    let sign_in = sign_in_of(&request(&[CLIENT, PROXY]));
    assert_eq!(sign_in.url, "https://login.microsoftonline.com/t/oauth2/v2.0/token");
    assert_eq!(form(&sign_in)[0], ("client_assertion".to_owned(), "sa-binding".to_owned()));
    assert_eq!(header(&sign_in, "host"), None);
}

#[test]
fn the_identity_of_the_node_comes_from_its_metadata_service() {
    let sign_in = sign_in_of(&request(&[MANAGED]));
    assert_eq!(
        (sign_in.method, sign_in.url.as_str()),
        (
            "GET",
            "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net"
        )
    );
    assert_eq!(header(&sign_in, "metadata"), Some("true"));
    assert!(sign_in.idempotent && sign_in.body.is_empty());
    let retried = sign_in.retry_statuses.unwrap();
    assert!([404, 410, 429, 500, 502, 503, 504].iter().all(|status| retried.contains(status)));
    assert!(!retried.contains(&400));
}

#[test]
fn an_assigned_identity_is_named_by_its_client_id_and_the_resource_is_that_of_the_cloud() {
    let sign_in = sign_in_of(&request(&[MANAGED, ASSIGNED, ("cloudName", "AzureUSGovernment")]));
    let query = sign_in.url.split_once('?').unwrap().1;
    assert_eq!(query, "api-version=2018-02-01&client_id=ua+id%2F1&resource=https%3A%2F%2Fvault.usgovcloudapi.net");
}

#[test]
fn refusals_of_the_metadata_service_say_what_to_do() {
    let body = r#"{"error":"invalid_request","error_description":"Identity not found"}"#;
    for (parameters, answer, kind, words) in [
        (
            &[MANAGED, ASSIGNED][..],
            json(400, body),
            FailureKind::Unauthenticated,
            "identity isn't assigned to the node",
        ),
        (&[MANAGED], json(400, body), FailureKind::Unauthenticated, "name one in userAssignedIdentityID"),
        (&[MANAGED], json(400, body), FailureKind::Unauthenticated, "status 400: Identity not found"),
        (&[MANAGED], json(404, ""), FailureKind::Unavailable, "does not know it yet"),
        (&[MANAGED], json(410, ""), FailureKind::Unavailable, "does not know it yet"),
        (&[MANAGED], json(429, ""), FailureKind::Throttled { retry_after_seconds: None }, "status 429"),
        (&[MANAGED], json(503, ""), FailureKind::Unavailable, "status 503"),
        (&[MANAGED], json(302, ""), FailureKind::Internal, "status 302"),
        (&[MANAGED], json(200, "{}"), FailureKind::Internal, "the metadata service's answer has no access_token"),
        (&[MANAGED], Err(Error::Connect("refused".into())), FailureKind::Unavailable, "needs a node in Azure"),
        (&[MANAGED], Err(Error::Denied("no rule".into())), FailureKind::PermissionDenied, "an administrator has to"),
    ] {
        let failure = refused_with(&request(parameters), || answer.clone());
        assert_eq!(failure.kind, kind, "{failure}");
        assert!(failure.message.contains(words), "{failure}");
    }
}

#[test]
fn a_managed_identity_without_rights_is_named_in_the_refusal_of_the_vault() {
    for (parameters, principal) in [
        (&[MANAGED][..], "the system-assigned identity of the node"),
        (&[MANAGED, ("userAssignedIdentityID", "ua-1")], "the managed identity ua-1"),
        (&[CLIENT], "the application 2c3d4e5f-"),
    ] {
        let wire = Wire::new(|request, _| if is_sign_in(request) { token("t") } else { json(403, "{}") });
        let failure = mount(&request(parameters), &wire).unwrap_err();
        assert!(failure.message.contains(&format!("give {principal}")), "{failure}");
    }
}

#[test]
fn pod_identity_asks_the_nmi_for_the_pod_as_it_has_always_been_asked() {
    let sign_in = sign_in_of(&request(&[POD]));
    assert_eq!(
        (sign_in.method, sign_in.url.as_str()),
        ("GET", "http://localhost:2579/host/token/?resource=https://vault.azure.net")
    );
    assert_eq!((header(&sign_in, "podns"), header(&sign_in, "podname")), (Some("shop"), Some("web-0")));
}

#[test]
fn pod_identity_without_a_pod_says_what_is_missing() {
    let mut request = request(&[POD]);
    request.pod.namespace.clear();
    assert!(unsent(&request).message.starts_with("pod namespace is not provided"));
    request.pod.name.clear();
    assert!(unsent(&request).message.starts_with("pod name is not provided"));
}

#[test]
fn the_end_of_an_nmi_token_may_be_text_or_number_and_one_without_is_not_kept() {
    for (fields, kept) in [
        (r#""expires_on":"4600""#, Some(3_300)),
        (r#""expires_on":4600"#, Some(3_300)),
        (r#""expires_on":"never""#, None),
    ] {
        let answer = format!(r#"{{"token":{{"access_token":"t",{fields}}},"clientid":"c"}}"#);
        let wire = Wire::new(|request, _| if is_sign_in(request) { json(200, &answer) } else { secret(request) });
        let session = mount(&request(&[POD]), &wire).unwrap().session;
        assert_eq!(session.map(|session| session.expires_in_seconds), kept);
    }
}

#[test]
fn refusals_of_the_nmi_say_what_to_do() {
    for (answer, kind, words) in [
        (json(404, "no AzureAssignedIdentity found"), FailureKind::Unauthenticated, "no AzureIdentityBinding selects"),
        (
            json(404, "no AzureAssignedIdentity found"),
            FailureKind::Unauthenticated,
            "nmi response failed with status code: 404, response body: no AzureAssignedIdentity found",
        ),
        (json(500, ""), FailureKind::Unavailable, "nmi response failed with status code: 500"),
        (json(200, "{}"), FailureKind::Internal, "the NMI's answer has no clientid"),
        (json(200, r#"{"clientid":"c"}"#), FailureKind::Internal, "the NMI's answer has no token"),
        (json(200, r#"{"clientid":"c","token":{}}"#), FailureKind::Internal, "the NMI's answer has no access_token"),
        (json(200, "<html>"), FailureKind::Internal, "the NMI's answer is not the JSON of a token"),
        (Err(Error::Connect("refused".into())), FailureKind::Unavailable, "the NMI has to run on the node"),
    ] {
        let failure = refused_with(&request(&[POD]), || answer.clone());
        assert_eq!(failure.kind, kind, "{failure}");
        assert!(failure.message.contains(words), "{failure}");
    }
}

#[test]
fn neither_debug_output_nor_failures_show_a_token() {
    let request = request(&[CLIENT]);
    assert!(!format!("{request:?} {:?}", request.tokens).contains("sa-exchange"));
}

#[test]
fn every_request_but_those_to_the_nmi_says_who_asks_and_in_which_version() {
    let agent = concat!("csi-secrets-store/", env!("CARGO_PKG_VERSION"), " coffer-azure-key-vault");
    for (parameters, agents) in
        [(&[CLIENT][..], [Some(agent); 2]), (&[MANAGED], [Some(agent); 2]), (&[POD], [None, Some(agent)])]
    {
        let wire = Wire::new(|request, _| match is_sign_in(request) {
            true if request.url.contains("/host/token/") => nmi("t-1"),
            true => token("t-1"),
            false => secret(request),
        });
        mount(&request(parameters), &wire).unwrap();
        let sent: Vec<_> = wire.requests();
        assert_eq!(sent.iter().map(|request| header(request, "user-agent")).collect::<Vec<_>>(), agents);
    }
}
