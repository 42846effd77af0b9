//! `coffer refresh`: has the running driver look at volumes now, and says what came of each.

use crate::args::{Output, Refresh};
use crate::error::Error;
use crate::exit::Exit;
use crate::failure::{json_object, printable};
use crate::publish::looks::{Look, Outcome};
use crate::telemetry::admin::volumes::{self, Asked};

pub async fn run(arguments: Refresh) -> Result<Exit, Error> {
    let choice = super::status::choice(arguments.choice);
    let patience = if arguments.no_wait { 0 } else { arguments.timeout.0.as_secs().max(1) };
    let asked = Asked { choice: choice.clone(), wait_seconds: patience };
    let looks = volumes::ask_refresh(&arguments.driver.admin_socket, &asked).await?;
    if looks.volumes.is_empty() {
        super::status::check_choice(&choice)?;
    }
    match arguments.driver.output {
        Output::Table => super::print(&looks.volumes.iter().map(line).collect::<String>())?,
        Output::Json => super::print(&json_object(&looks))?,
    }
    Ok(exit(&looks.volumes, arguments.no_wait))
}

/// What was only asked for may still wait.
fn exit(looks: &[Look], no_wait: bool) -> Exit {
    let is_wrong = |look: &Look| match look.result {
        Outcome::Failed => true,
        Outcome::Waiting => !no_wait,
        Outcome::Changed | Outcome::Unchanged | Outcome::Gone => false,
    };
    if looks.iter().any(is_wrong) { Exit::Attention } else { Exit::Ok }
}

fn line(look: &Look) -> String {
    let what = match look.result {
        Outcome::Changed => "changed",
        Outcome::Unchanged => "unchanged",
        Outcome::Failed => "failed",
        Outcome::Waiting => "not yet",
        Outcome::Gone => "gone",
    };
    let Look { namespace, pod, class, volume, .. } = look;
    let name = printable(&format!("{namespace}/{pod} {volume} ({class})"));
    match &look.message {
        Some(message) => format!("{name}: {what}: {}\n", printable(message)),
        None => format!("{name}: {what}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(result: Outcome, message: Option<&str>) -> Look {
        Look {
            namespace: "shop".into(),
            pod: "web".into(),
            class: "kv".into(),
            volume: "secrets".into(),
            result,
            reason: None,
            message: message.map(str::to_owned),
        }
    }

    #[test]
    fn each_volume_is_one_line_that_names_it() {
        assert_eq!(line(&look(Outcome::Changed, None)), "shop/web secrets (kv): changed\n");
        let failed = look(Outcome::Failed, Some("it is\nas it is\u{1b}[2J"));
        assert_eq!(line(&failed), "shop/web secrets (kv): failed: it is\u{fffd}as it is\u{fffd}[2J\n");
    }

    #[test]
    fn what_failed_or_was_not_done_in_time_needs_attention() {
        let exits = |result| [false, true].map(|no_wait| exit(&[look(result, None)], no_wait).code());
        assert_eq!(exits(Outcome::Changed), [0, 0]);
        assert_eq!(exits(Outcome::Unchanged), [0, 0]);
        assert_eq!(exits(Outcome::Gone), [0, 0]);
        assert_eq!(exits(Outcome::Failed), [1, 1]);
        assert_eq!(exits(Outcome::Waiting), [1, 0]);
    }
}
