//! What whoever runs the driver has in hand: its command line, its log, its metrics, its configuration.

use coffer_tests::harness::kubelet::Pod;

use super::namespace::Inside as _;
use super::patience::eventually;
use super::process::Line;
use super::world::{CLASS, SECRET, Setup, VAULT, World, pod};

#[tokio::test]
async fn it_starts_with_the_command_line_of_the_driver_whose_place_it_takes() {
    let flags = [
        "-v=0",
        "-log-format-json=true",
        "--provider-volume=/var/run/secrets-store-csi-providers",
        "--additional-provider-volume-paths=/etc/kubernetes/secrets-store-csi-providers",
        "-enable-secret-rotation=true",
        "--rotation-poll-interval=2m0s",
        "--provider-health-check=false",
        "--provider-health-check-interval=2m",
        "--max-call-recv-msg-size=4194304",
    ];
    let world = World::with(Setup { flags: flags.map(str::to_owned).into(), ..Setup::default() }).await;
    let pod = pod("web");
    world.publish(&pod).await;
    world.vault.secret(SECRET).set("canary of the second value");
    world.advance(150);
    let newer = || (world.file(&pod, SECRET) == "canary of the second value").then_some(());
    eventually("the newer secret", newer).await;
}

#[tokio::test]
async fn the_log_is_text_where_it_is_not_asked_to_be_json_and_warnings_begin_with_their_letter() {
    let flags = vec!["--log-format-json=false".to_owned()];
    let world = World::with(Setup { flags, level: "info", ..Setup::default() }).await;
    let error = world.kubelet.publish(&Pod::new("web").mounts("none"), "secrets").await.unwrap_err();
    assert!(error.to_string().contains("not found"), "{error}");
    let line = world.log.wait("the failure", |line| line.text.contains("default/none")).await;
    assert!(line.text.starts_with('W') || line.text.starts_with('E'), "{}", line.text);
}

#[tokio::test]
async fn the_level_of_the_log_changes_while_it_runs() {
    let flags = vec!["--log-format-json=false".to_owned()];
    let world = World::with(Setup { level: "info", flags, ..Setup::default() }).await;
    let socket = world.socket().with_file_name("admin.sock");
    let set = |level: &str| {
        let program = world.program().to_str().unwrap();
        world.namespace.run(program, &["log-level", level, "--admin-socket", socket.to_str().unwrap()]);
    };
    world.publish(&pod("web-1")).await;
    set("debug");
    world.publish(&pod("web-2")).await;
    set("info");
    let last = pod("web-3");
    world.publish(&last).await;
    let is_last = |line: &Line| line.text.contains("volume published") && line.text.contains(last.uid());
    world.log.wait("the last line", is_last).await;
    let lines = world.log.lines();
    let changes: Vec<usize> = (0..lines.len()).filter(|n| lines[*n].text.contains("log level changed")).collect();
    let [louder, quieter] = changes[..] else { panic!("{changes:?}") };
    let debug = |lines: &[Line]| lines.iter().filter(|line| line.text.starts_with('D')).count();
    assert_eq!((debug(&lines[..louder]), debug(&lines[quieter..])), (0, 0));
    assert!(debug(&lines[louder..quieter]) > 0);
}

#[tokio::test]
async fn metrics_have_the_names_that_dashboards_know_and_show_no_name_of_a_secret() {
    let world = World::with(Setup::rotating("1m")).await;
    let pod = pod("web");
    world.publish(&pod).await;
    world.advance(70);
    eventually("a look", || (world.metric("rotation_reconcile_total", &[]) > 0.0).then_some(())).await;
    world.unpublish(&pod).await;
    let (status, text) = world.driver().get("/metrics").unwrap();
    assert_eq!(status, 200);
    for name in
        ["node_publish_total", "node_unpublish_total", "rotation_reconcile_total", "rotation_reconcile_duration_sec"]
    {
        assert!(text.contains(name), "{name} is not in\n{text}");
    }
    for secret in [SECRET, VAULT, "web", CLASS] {
        let shown =
            text.lines().filter(|line| !line.starts_with('#')).find(|line| line.contains(&format!("\"{secret}")));
        assert!(shown.is_none(), "{shown:?}");
    }
}

#[tokio::test]
async fn nobody_gets_a_profile_of_the_process_from_the_ports_that_it_serves() {
    let world = World::new().await;
    for path in ["/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/profile", "/debug/vars"] {
        assert!(world.driver().get(path).is_none(), "{path}");
    }
    assert!(world.driver().get("/metrics").is_some());
}

#[tokio::test]
async fn the_identity_of_the_node_is_for_the_namespaces_that_may_have_it() {
    // Nobody listens there, so whoever is let through is told that.
    let rules = "      - {rule: 'GET http://169.254.169.254/metadata/identity', connect: '127.0.0.1:1'}".to_owned();
    let config = "nodeIdentity: {namespaces: [trusted]}".to_owned();
    let world = World::with(Setup { rules, config, limits: "requests: 1".into(), ..Setup::default() }).await;
    let url = [("url", "http://169.254.169.254/metadata/identity/oauth2/token")];
    for (namespace, answer) in [("default", "denied"), ("trusted", "connect")] {
        world.put_guest_in(namespace, "asking", "behaves", &url);
        let pod = Pod::new("web").namespace(namespace).mounts("asking");
        world.publish(&pod).await;
        let found = world.file(&pod, "file");
        assert!(found.starts_with(answer), "{namespace}: {found}");
    }
}

#[tokio::test]
async fn a_configuration_that_is_wrong_keeps_it_from_starting_and_is_named() {
    let world = World::idle(Setup::default()).await;
    for (config, what) in
        [("providers: {azure: {egres: []}}\n", "egres"), ("reuseResultsFor: long\n", "reuseResultsFor")]
    {
        world.write("config.yaml", config);
        world.spawn();
        let status = world.ended().await;
        assert!(!status.success(), "{status:?}");
        world.log.wait("what is wrong", |line| line.text.contains(what) || line.text.contains("config.yaml:1")).await;
        assert!(!world.socket().exists());
    }
}

#[tokio::test]
async fn a_node_without_a_name_is_told_to_give_one() {
    let world = World::idle(Setup { flags: vec!["--nodeid=".into()], ..Setup::default() }).await;
    world.spawn();
    assert!(!world.ended().await.success());
    world
        .log
        .wait("what is missing", |line| line.text.contains("nodeid") || line.text.contains("KUBE_NODE_NAME"))
        .await;
}
