//! The API server of the harness checked against what a real one does, with a client that knows nothing of Coffer.

use coffer_tests::harness::apiserver::{ApiServer, Fault, Matcher, Resource, Right, Verb};
use coffer_tests::harness::{RetryAfter, Times};
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use super::{server, soon};

const STATUSES: &str = "/apis/secrets-store.csi.x-k8s.io/v1/namespaces/shop/secretproviderclasspodstatuses";
const CLASSES: &str = "/apis/secrets-store.csi.x-k8s.io/v1/namespaces/shop/secretproviderclasses";

struct Reply {
    status: u16,
    retry_after: String,
    body: Value,
}

/// One request on a connection of its own. A patch is a server-side apply.
async fn send(server: &ApiServer, method: Method, path: &str, body: Option<Value>) -> Result<Reply, hyper::Error> {
    let stream = tokio::net::TcpStream::connect(server.address()).await.unwrap();
    let (mut client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let kind = if method == Method::PATCH { "application/apply-patch+yaml" } else { "application/json" };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", server.address().to_string())
        .header("authorization", format!("Bearer {}", server.token()))
        .header("user-agent", "kubectl/1.35")
        .header("content-type", kind)
        .body(Full::new(bytes::Bytes::from(body.map(|body| body.to_string()).unwrap_or_default())))
        .unwrap();
    let response = client.send_request(request).await?;
    let status = response.status().as_u16();
    let retry_after = response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
    let body = response.into_body().collect().await?.to_bytes();
    connection.abort();
    let text = || json!(String::from_utf8_lossy(&body));
    let body = serde_json::from_slice(&body).unwrap_or_else(|_| text());
    Ok(Reply { status, retry_after: retry_after.unwrap_or_default(), body })
}

async fn get(server: &ApiServer, path: &str) -> Reply {
    send(server, Method::GET, path, None).await.unwrap()
}

async fn apply(server: &ApiServer, manager: &str, force: bool, metadata: Value, status: Value) -> Reply {
    let mut object = json!({
        "apiVersion": "secrets-store.csi.x-k8s.io/v1", "kind": "SecretProviderClassPodStatus",
        "metadata": metadata, "status": status,
    });
    object["metadata"]["name"] = json!("s");
    let path = format!("{STATUSES}/s?fieldManager={manager}&force={force}");
    send(server, Method::PATCH, &path, Some(object)).await.unwrap()
}

fn owner(uid: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid})
}

#[tokio::test]
async fn an_apply_makes_changes_and_removes_what_its_manager_no_longer_wants() {
    let server = server().await;
    let annotated = json!({"annotations": {"a": "1", "b": "2"}, "ownerReferences": [owner("u1")]});
    let reply = apply(&server, "one", false, annotated, json!({"podName": "p", "mounted": true})).await;
    assert_eq!((reply.status, &reply.body["metadata"]["generation"]), (201, &json!(1)));
    let annotated = json!({"annotations": {"a": "1"}, "ownerReferences": [owner("u2")]});
    let reply = apply(&server, "one", false, annotated, json!({"podName": "q"})).await;
    assert_eq!(reply.status, 200);
    let object = server.pod_status("shop", "s").unwrap();
    assert_eq!(object["metadata"]["annotations"], json!({"a": "1"}));
    assert_eq!(object["metadata"]["ownerReferences"], json!([owner("u2")]));
    assert_eq!((&object["status"], &object["metadata"]["generation"]), (&json!({"podName": "q"}), &json!(2)));
}

#[tokio::test]
async fn an_apply_that_changes_nothing_makes_no_new_version() {
    let server = server().await;
    let first = apply(&server, "one", false, json!({}), json!({"podName": "p"})).await;
    let second = apply(&server, "one", false, json!({}), json!({"podName": "p"})).await;
    assert_eq!(first.body["metadata"], second.body["metadata"]);
}

#[tokio::test]
async fn fields_of_another_manager_are_taken_by_force_only() {
    let server = server().await;
    let parts = json!({"metadata": {"ownerReferences": [owner("u1")]}, "status": {"podName": "p", "mounted": true}});
    server.set_as("secrets-store-csi", Resource::PodStatuses, "shop", "s", &parts);
    let owned = json!({"ownerReferences": [owner("u2")]});
    let reply = apply(&server, "coffer", false, owned.clone(), json!({"podName": "q"})).await;
    assert_eq!((reply.status, &reply.body["reason"]), (409, &json!("Conflict")));
    assert_eq!(reply.body["details"]["causes"][0]["field"], ".status.podName");
    let reply = apply(&server, "coffer", true, owned, json!({"podName": "q"})).await;
    assert_eq!(reply.status, 200);
    let object = server.pod_status("shop", "s").unwrap();
    assert_eq!(object["status"], json!({"podName": "q", "mounted": true}));
    assert_eq!(object["metadata"]["ownerReferences"], json!([owner("u1"), owner("u2")]), "both owners stay");
    server.collect("u1");
    assert!(server.pod_status("shop", "s").is_some(), "one owner is left");
    server.collect("u2");
    assert!(server.pod_status("shop", "s").is_none());
}

#[tokio::test]
async fn what_no_api_server_stores_is_refused() {
    let server = server().await;
    let long = "x".repeat(64);
    for metadata in [
        json!({"labels": {"a": long}}),
        json!({"labels": {"a": "-"}}),
        json!({"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p"}]}),
    ] {
        let reply = apply(&server, "one", true, metadata.clone(), json!({})).await;
        assert_eq!((reply.status, &reply.body["reason"]), (422, &json!("Invalid")), "{metadata}");
    }
    let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"},
        "involvedObject": {"kind": "Pod", "namespace": "other"}});
    let reply = send(&server, Method::POST, "/api/v1/namespaces/shop/events", Some(event)).await.unwrap();
    assert_eq!(reply.status, 422);
}

#[tokio::test]
async fn a_missing_object_and_a_missing_definition_are_told_apart() {
    let server = server().await;
    let reply = get(&server, &format!("{CLASSES}/kv")).await;
    assert_eq!((reply.status, &reply.body["details"]["name"]), (404, &json!("kv")));
    server.define(Resource::Classes, false);
    let reply = get(&server, &format!("{CLASSES}/kv")).await;
    assert_eq!((reply.status, reply.body), (404, json!("404 page not found\n")));
    let listed = get(&server, "/apis/secrets-store.csi.x-k8s.io/v1").await.body;
    let names: Vec<&Value> = listed["resources"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["secretproviderclasspodstatuses"]);
}

#[tokio::test]
async fn a_class_keeps_its_uid_and_counts_its_edits_and_its_cache_may_lag() {
    let server = server().await;
    let class = server.class("shop", "kv");
    server.freeze_cache();
    class.put("azure", &[("keyvaultName", "a")]);
    assert_eq!(get(&server, &format!("{CLASSES}/kv?resourceVersion=0")).await.status, 404);
    assert_eq!(get(&server, &format!("{CLASSES}/kv")).await.body["spec"]["provider"], "azure");
    server.thaw_cache();
    let first = class.revision();
    class.annotate("coffer.dev/refresh", Some("now"));
    assert_eq!(class.revision(), first, "an annotation is no edit of the spec");
    class.put("azure", &[("keyvaultName", "b")]);
    assert_eq!(class.revision(), first.replace("/1", "/2"));
    let object = class.object().unwrap();
    assert_eq!(object["metadata"]["annotations"]["coffer.dev/refresh"], "now");
    class.delete();
    class.put("azure", &[]);
    assert_ne!(class.revision(), first);
}

#[tokio::test]
async fn rights_are_enforced_and_a_patch_that_makes_an_object_needs_create_too() {
    let server = server().await;
    let text = |list: &[&str]| list.iter().map(|item| (*item).to_owned()).collect::<Vec<String>>();
    let right = Right {
        groups: text(&["secrets-store.csi.x-k8s.io"]),
        resources: text(&["secretproviderclasspodstatuses"]),
        verbs: text(&["patch"]),
        names: vec![],
    };
    server.enforce(Some(vec![right.clone()]));
    assert_eq!(get(&server, &format!("{CLASSES}/kv")).await.status, 403);
    assert_eq!(apply(&server, "one", true, json!({}), json!({})).await.status, 403);
    server.enforce(Some(vec![Right { verbs: text(&["patch", "create"]), ..right }]));
    assert_eq!(apply(&server, "one", true, json!({}), json!({})).await.status, 201);
    assert_eq!(get(&server, "/apis/secrets-store.csi.x-k8s.io/v1").await.status, 200, "discovery is for everybody");
}

#[tokio::test]
async fn faults_come_as_planned_and_the_log_tells() {
    let server = server().await;
    let classes = || Matcher::of(Verb::Get, Resource::Classes);
    server.class("shop", "kv").put("azure", &[]);
    let path = format!("{CLASSES}/kv");
    server.inject(classes().name("other"), Fault::failing(500, None), Times::Always);
    server.inject(classes(), Fault::throttled(Some(RetryAfter::Seconds(3))), Times::ONCE);
    server.inject(classes(), Fault::Close, Times::ONCE);
    let reply = get(&server, &path).await;
    assert_eq!((reply.status, reply.retry_after.as_str()), (429, "3"));
    assert!(send(&server, Method::GET, &path, None).await.is_err());
    assert_eq!(get(&server, &path).await.status, 200);
    let seen: Vec<_> = server.entries().iter().map(|entry| (entry.status, entry.fault, entry.authorized)).collect();
    assert_eq!(seen, [(Some(429), Some("answer"), true), (None, Some("close"), true), (Some(200), None, true)]);
    assert_eq!(server.counters().of(Verb::Get, Resource::Classes), 3);
    soon("the log", server.log().answered(Verb::Get, Resource::Classes, 3)).await;
}

#[tokio::test]
async fn it_goes_away_and_comes_back_on_the_same_port() {
    let server = server().await;
    server.class("shop", "kv").put("azure", &[]);
    server.go_away().await;
    assert!(tokio::net::TcpStream::connect(server.address()).await.is_err());
    server.come_back().unwrap();
    assert_eq!(get(&server, &format!("{CLASSES}/kv")).await.status, 200);
}
