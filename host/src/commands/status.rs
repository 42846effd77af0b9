//! `coffer status`: the volumes of the running driver. As a table for people, as JSON for programs, and with `--watch` again
//! and again: a terminal is redrawn, everything else gets a line for each change.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{MissedTickBehavior, interval};

use super::report::{new_table, push_table};
use crate::args::{self, Output};
use crate::error::Error;
use crate::exit::Exit;
use crate::failure::{json_object, printable};
use crate::publish::looks::Choice;
use crate::publish::status::{State, Status, Volume};
use crate::telemetry::admin::{AskError, volumes};

/// How often the driver is asked while somebody watches.
const LOOK: Duration = Duration::from_secs(2);
/// Clears a terminal and goes to its upper left corner.
const CLEAR: &str = "\u{1b}[2J\u{1b}[H";

pub async fn run(arguments: args::Status) -> Result<Exit, Error> {
    let (socket, output) = (arguments.driver.admin_socket, arguments.driver.output);
    let choice = choice(arguments.choice);
    let status = ask(&socket, &choice).await?;
    if arguments.watch {
        return watch(&socket, &choice, output, status).await;
    }
    if status.volumes.is_empty() {
        check_choice(&choice)?;
    }
    super::print(&match output {
        Output::Table => tables(&status),
        Output::Json => json_object(&status),
    })?;
    Ok(exit(&status))
}

/// The words of the command line as the driver knows them.
pub(super) fn choice(volumes: args::Volumes) -> Choice {
    let args::Volumes { namespace, pod, class } = volumes;
    Choice { namespace, pod, class }
}

/// Nothing was found: an error where something was named.
pub(super) fn check_choice(choice: &Choice) -> Result<(), Error> {
    let Choice { namespace, pod, class } = choice;
    let named = [("namespace", namespace), ("pod", pod), ("class", class)];
    let named = named.iter().filter_map(|(what, name)| Some(format!("{what} `{}`", name.as_deref()?)));
    match named.collect::<Vec<_>>().join(", ") {
        which if which.is_empty() => Ok(()),
        which => Err(Error::NoVolume { which }),
    }
}

async fn ask(socket: &Path, choice: &Choice) -> Result<Status, AskError> {
    let mut status = volumes::ask_status(socket).await?;
    status.volumes.retain(|volume| choice.fits(volume));
    Ok(status)
}

fn exit(status: &Status) -> Exit {
    if status.volumes.iter().all(|volume| volume.state == State::Ok) { Exit::Ok } else { Exit::Attention }
}

/// Until Ctrl-C. A driver that is being replaced is waited for.
async fn watch(socket: &Path, choice: &Choice, output: Output, first: Status) -> Result<Exit, Error> {
    let is_terminal = output == Output::Table && std::io::stdout().is_terminal();
    let mut shown = Shown::default();
    let mut last = first;
    let mut is_there = true;
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        if is_terminal {
            let gone = if is_there { "" } else { "the driver does not answer; this is what it said last\n\n" };
            super::print(&format!("{CLEAR}{gone}{}", tables(&last)))?;
        } else {
            super::print(&shown.changes(&last, output))?;
        }
        tokio::select! {
            _ = ticks.tick() => {}
            signal = tokio::signal::ctrl_c() => return signal.map(|()| exit(&last)).map_err(Error::Signals),
        }
        match ask(socket, choice).await {
            Ok(status) => (last, is_there) = (status, true),
            Err(AskError::NotThere(..) | AskError::NoAnswer(_) | AskError::TooSlow(..)) => {
                if is_there && !is_terminal {
                    tracing::warn!(socket = %socket.display(), "the driver does not answer; waiting for it");
                }
                is_there = false;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// What was printed of each volume.
#[derive(Default)]
struct Shown(BTreeMap<String, Volume>);

impl Shown {
    /// A line for each volume that is new, gone, or another one than before in more than its times of looking.
    fn changes(&mut self, status: &Status, output: Output) -> String {
        let mut text = String::new();
        let now: BTreeMap<_, _> =
            status.volumes.iter().map(|volume| (volume.volume_id.clone(), volume.clone())).collect();
        for volume in self.0.values().filter(|volume| !now.contains_key(&volume.volume_id)) {
            push_line(&mut text, &status.time, volume, true, output);
        }
        for volume in &status.volumes {
            if self.0.get(&volume.volume_id).is_none_or(|before| essence(before) != essence(volume)) {
                push_line(&mut text, &status.time, volume, false, output);
            }
        }
        self.0 = now;
        text
    }
}

/// What of a volume is worth a line.
fn essence(volume: &Volume) -> Volume {
    let mut essence = volume.clone();
    essence.checked.clear();
    essence.due = None;
    essence.offline = None;
    essence.waits_for_kubelet = false;
    if let Some(failure) = &mut essence.failure {
        failure.last.clear();
        failure.times = 0;
    }
    essence
}

fn push_line(text: &mut String, time: &str, volume: &Volume, is_gone: bool, output: Output) {
    let _ = match output {
        Output::Json => {
            let object = serde_json::json!({ "time": time, "gone": is_gone, "volume": volume });
            writeln!(text, "{object}")
        }
        Output::Table => {
            let Volume { namespace, pod, volume: name, class, .. } = volume;
            let what = if is_gone { "gone".to_owned() } else { what(volume) };
            writeln!(text, "{time} {}", printable(&format!("{namespace}/{pod} {name} ({class}): {what}")))
        }
    };
}

fn what(volume: &Volume) -> String {
    let objects: Vec<_> = volume.objects.iter().map(|object| format!("{} {}", object.id, object.version)).collect();
    let mut text = word(volume.state).to_owned();
    if let Some(failure) = &volume.failure {
        let _ = write!(text, " since {}: {}", failure.since, failure.message);
    }
    let _ = write!(text, "; {}", objects.join(", "));
    text
}

fn word(state: State) -> &'static str {
    match state {
        State::Ok => "ok",
        State::Failing => "failing",
        State::Offline => "offline",
    }
}

/// A table with a line for each object, and what is wrong below it.
fn tables(status: &Status) -> String {
    let mut text = String::new();
    let header =
        ["NAMESPACE", "POD", "VOLUME", "CLASS", "PROVIDER", "STATE", "CHECKED", "CHANGED", "DUE", "OBJECT", "VERSION"];
    let mut table = new_table(&header, &[]);
    let now = status.time.parse::<Timestamp>().ok();
    for volume in &status.volumes {
        let lines = |part: fn(&crate::publish::status::Object) -> &String| {
            volume.objects.iter().map(|object| printable(part(object))).collect::<Vec<_>>().join("\n")
        };
        table.add_row([
            printable(&volume.namespace),
            printable(&volume.pod),
            printable(&volume.volume),
            or_dash(&volume.class),
            or_dash(&volume.provider),
            word(volume.state).to_owned(),
            ago(now, Some(&volume.checked)),
            ago(now, volume.changed.as_deref()),
            due(now, volume),
            lines(|object| &object.id),
            lines(|object| &object.version),
        ]);
    }
    push_table(&mut text, &table);
    for volume in &status.volumes {
        push_wrong(&mut text, now, volume);
    }
    let wrong = status.volumes.iter().filter(|volume| volume.state != State::Ok).count();
    let count = status.volumes.len();
    let noun = if count == 1 { "volume" } else { "volumes" };
    let _ = match wrong {
        0 => writeln!(text, "{count} {noun}, all right"),
        wrong => writeln!(text, "{count} {noun}, {wrong} not right"),
    };
    text
}

fn push_wrong(text: &mut String, now: Option<Timestamp>, volume: &Volume) {
    let Volume { namespace, pod, volume: name, .. } = volume;
    let mut wrong = Vec::new();
    if let Some(offline) = &volume.offline {
        wrong.push(format!("has a kept result of {} ({})", offline.good_at, ago(now, Some(&offline.good_at))));
    }
    if let Some(until) = &volume.throttled_until {
        wrong.push(format!("the store asked to be left alone until {until}"));
    }
    if let Some(failure) = &volume.failure {
        let since = ago(now, Some(&failure.since));
        let times = if failure.times == 1 { "once".to_owned() } else { format!("{} times", failure.times) };
        wrong.push(format!("failed {times} since {} ({since}): {}", failure.since, failure.message));
    }
    for wrong in &wrong {
        let _ = writeln!(text, "{}", printable(&format!("{namespace}/{pod} {name}: {wrong}")));
    }
    if !wrong.is_empty() {
        text.push('\n');
    }
}

fn due(now: Option<Timestamp>, volume: &Volume) -> String {
    if volume.waits_for_kubelet {
        return "at kubelet's call".to_owned();
    }
    let left = now.zip(volume.due.as_ref().and_then(|due| due.parse::<Timestamp>().ok()));
    match left.map(|(now, due)| due.as_second() - now.as_second()) {
        Some(seconds) if seconds > 0 => format!("in {}", time_span(seconds)),
        Some(_) => "now".to_owned(),
        None => "-".to_owned(),
    }
}

/// How long ago, `-` where nobody knows.
fn ago(now: Option<Timestamp>, then: Option<&str>) -> String {
    let then = then.and_then(|then| then.parse::<Timestamp>().ok());
    match now.zip(then) {
        Some((now, then)) => format!("{} ago", time_span((now.as_second() - then.as_second()).max(0))),
        None => "-".to_owned(),
    }
}

/// Two units at most, as kubectl shows ages.
fn time_span(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => format!("{minutes}m{:02}s", seconds % 60),
        600..7_200 => format!("{minutes}m"),
        7_200..86_400 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { printable(text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::status::{Failure, Object, Offline, Rotation};

    fn volume(pod: &str) -> Volume {
        let object = |id: &str, version: &str| Object { id: id.into(), version: version.into() };
        Volume {
            namespace: "shop".into(),
            pod: pod.into(),
            pod_uid: "u".into(),
            service_account: "sa".into(),
            class: "kv".into(),
            provider: "azure".into(),
            volume: "secrets".into(),
            volume_id: format!("csi-{pod}"),
            target: "/t".into(),
            state: State::Ok,
            checked: "2026-11-25T05:00:00Z".into(),
            changed: Some("2026-11-24T03:00:00Z".into()),
            due: Some("2026-11-25T05:02:10Z".into()),
            waits_for_kubelet: false,
            throttled_until: None,
            objects: vec![object("secret/a", "1"), object("secret/b", "22")],
            failure: None,
            offline: None,
        }
    }

    fn failing(pod: &str) -> Volume {
        let failure = Failure {
            reason: "Unavailable".into(),
            message: "the vault is away".into(),
            since: "2026-11-25T04:50:00Z".into(),
            last: "2026-11-25T04:59:00Z".into(),
            times: 4,
        };
        Volume { state: State::Failing, failure: Some(failure), waits_for_kubelet: true, ..volume(pod) }
    }

    fn status(volumes: Vec<Volume>) -> Status {
        let rotation = Rotation { enabled: true, interval_seconds: 120 };
        Status { time: "2026-11-25T05:00:30Z".into(), rotation, volumes }
    }

    #[test]
    fn a_table_has_times_objects_and_what_is_wrong() {
        let expected = "\
NAMESPACE  POD  VOLUME   CLASS  PROVIDER  STATE    CHECKED  CHANGED    DUE                OBJECT    VERSION
shop       web  secrets  kv     azure     ok       30s ago  1d02h ago  in 100s            secret/a  1
                                                                                          secret/b  22
shop       api  secrets  kv     azure     failing  30s ago  1d02h ago  at kubelet's call  secret/a  1
                                                                                          secret/b  22

shop/api secrets: failed 4 times since 2026-11-25T04:50:00Z (10m ago): the vault is away

2 volumes, 1 not right
";
        assert_eq!(tables(&status(vec![volume("web"), failing("api")])), expected);
        assert_eq!(tables(&status(vec![])), "0 volumes, all right\n");
    }

    #[test]
    fn a_kept_result_and_a_store_that_wants_to_be_left_alone_are_told() {
        let offline = Some(Offline { good_at: "2026-11-25T03:00:30Z".into(), age_seconds: 7_200 });
        let throttled_until = Some("2026-11-25T05:10:00Z".into());
        let volume = Volume { state: State::Offline, offline, throttled_until, ..failing("web") };
        let text = tables(&status(vec![volume]));
        assert!(text.contains("has a kept result of 2026-11-25T03:00:30Z (2h00m ago)"), "{text}");
        assert!(text.contains("left alone until 2026-11-25T05:10:00Z"), "{text}");
    }

    #[test]
    fn a_control_character_gets_to_no_terminal() {
        let mut odd = failing("web");
        odd.objects[0].id = "\u{1b}[2J".into();
        odd.failure.as_mut().unwrap().message = "a\u{9b}31m".into();
        let text = tables(&status(vec![odd.clone()])) + &Shown::default().changes(&status(vec![odd]), Output::Table);
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    }

    #[test]
    fn watching_prints_what_is_new_gone_or_other_and_nothing_else() {
        let mut shown = Shown::default();
        let lines = |shown: &mut Shown, volumes| shown.changes(&status(volumes), Output::Table).lines().count();
        assert_eq!(lines(&mut shown, vec![volume("a"), volume("b")]), 2);
        let later = Volume { checked: "2026-11-25T05:00:20Z".into(), due: None, ..volume("a") };
        assert_eq!(lines(&mut shown, vec![later, volume("b")]), 0);
        assert_eq!(lines(&mut shown, vec![failing("a"), volume("b")]), 1);
        let mut again = failing("a");
        again.failure.as_mut().unwrap().times += 1;
        assert_eq!(lines(&mut shown, vec![again, volume("b")]), 0);
        let gone = shown.changes(&status(vec![failing("a")]), Output::Json);
        let object: serde_json::Value = serde_json::from_str(&gone).unwrap();
        assert_eq!((&object["gone"], &object["volume"]["pod"]), (&true.into(), &"b".into()));
    }

    #[test]
    fn something_wrong_is_an_exit_code_of_its_own_and_a_name_that_nobody_has_is_an_error() {
        assert_eq!(exit(&status(vec![volume("a")])).code(), 0);
        assert_eq!(exit(&status(vec![volume("a"), failing("b")])).code(), 1);
        assert!(check_choice(&Choice::default()).is_ok());
        let error = check_choice(&Choice { pod: Some("web".into()), ..Choice::default() }).unwrap_err();
        assert_eq!((error.exit().code(), error.to_string().contains("pod `web`")), (65, true));
    }

    #[test]
    fn times_have_two_units_at_most() {
        let shown = [0, 119, 125, 600, 7_199, 7_260, 86_400, 1_000_000].map(time_span);
        assert_eq!(shown, ["0s", "119s", "2m05s", "10m", "119m", "2h01m", "1d00h", "11d13h"]);
    }
}
