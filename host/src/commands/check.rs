//! `coffer check`: everything that is wrong with classes, without a secret store.
//!
//! Mistakes in the shape of the objects come from `manifest`, those in the parameters from the provider's own `check`,
//! which has no HTTP. All are told; one is enough for exit code 65.

use std::collections::BTreeMap;
use std::fmt::Write;

use coffer_sandbox::error::Cause;
use serde::Serialize;
use tokio::time::Instant;

use crate::api::class::KIND;
use crate::app::{App, Plugin};
use crate::args::{Check, Output};
use crate::config::Config;
use crate::error::{Error, help_with_provider};
use crate::exit::Exit;
use crate::failure::{json_object, printable, push_mistake};
use crate::manifest::{self, Class};
use crate::mistake::Mistake;
use crate::publish;
use crate::publish::plan::find_grant;

/// What was checked and what was found.
#[derive(Serialize)]
struct Findings {
    classes: Vec<String>,
    mistakes: Vec<Mistake>,
}

pub async fn run(arguments: Check) -> Result<Exit, Error> {
    let config = Config::load(arguments.shared.config.as_deref())?;
    let manifests = manifest::read(&arguments.manifests)?;
    let mut mistakes = manifests.mistakes;
    if manifests.classes.is_empty() && mistakes.is_empty() {
        mistakes.push(Mistake::anywhere(format!("there is no {KIND} in the manifests")));
    }
    let mut checker = Checker { config, app: None, plugins: BTreeMap::new() };
    let mut failed = None;
    let mut classes = Vec::new();
    for class in &manifests.classes {
        match checker.check(class).await {
            Ok(found) => mistakes.extend(found),
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
        classes.push(class.object.name.clone());
    }
    // What was found is told even where a plugin cannot be asked.
    let findings = Findings { classes, mistakes };
    super::print(&match arguments.shared.output {
        Output::Table => findings.lines(),
        Output::Json => json_object(&findings),
    })?;
    match failed {
        Some(error) => Err(error),
        None if findings.mistakes.is_empty() => Ok(Exit::Ok),
        None => Ok(Exit::Invalid),
    }
}

/// Loads each plugin once, and none that no class needs.
struct Checker {
    config: Config,
    app: Option<App>,
    plugins: BTreeMap<String, Plugin>,
}

impl Checker {
    async fn check(&mut self, class: &Class) -> Result<Vec<Mistake>, Error> {
        let object = &class.object;
        // What is missing has been told already.
        if object.provider.is_empty() {
            return Ok(Vec::new());
        }
        let grant = match find_grant(&self.config, object, class.provider_position.as_ref()) {
            Ok(grant) => grant.clone(),
            Err(error) => return Ok(vec![unknown_provider(class, &error)]),
        };
        if object.parameters.is_empty() {
            return Ok(Vec::new());
        }
        if !self.plugins.contains_key(&object.provider) {
            let plugin = self.app()?.load(&object.provider, &grant).await?;
            self.plugins.insert(object.provider.clone(), plugin);
        }
        let Some(plugin) = self.plugins.get(&object.provider) else { return Ok(Vec::new()) };
        let deadline = Instant::now() + grant.limits.deadline;
        let mut parameters = grant.parameters.clone();
        parameters.extend(object.parameters.clone());
        match plugin.ready.check(&parameters, deadline).await.result {
            Ok(checked) => Ok(told_by_provider(class, checked.remarks.iter().map(String::as_str))),
            Err(error) => match error.cause {
                Cause::Failure(failure) => Ok(told_by_provider(class, failure.message.lines())),
                cause => Err(crate::app::Error::Plugin(coffer_sandbox::error::Error { cause, ..error }).into()),
            },
        }
    }

    fn app(&mut self) -> Result<&App, Error> {
        let app = match self.app.take() {
            Some(app) => app,
            None => App::new(self.config.clone(), 1)?,
        };
        Ok(self.app.insert(app))
    }
}

fn unknown_provider(class: &Class, error: &publish::Error) -> Mistake {
    let help = match error {
        publish::Error::UnknownProvider { provider, known, .. } => Some(help_with_provider(provider, known)),
        _ => None,
    };
    let position = class.provider_position.clone().unwrap_or_else(|| class.position.clone());
    Mistake::at(position, error.to_string()).help(help)
}

/// A provider puts each mistake on a line of its own, and here each one stands for itself. A remark counts as a mistake
/// here: whoever checks a class wants to know.
fn told_by_provider<'a>(class: &Class, lines: impl Iterator<Item = &'a str>) -> Vec<Mistake> {
    let mistake = |line| Mistake::at(class.position.clone(), format!("{KIND} `{}`: {line}", class.object.name));
    lines.map(str::trim).filter(|line| !line.is_empty()).map(mistake).collect()
}

impl Findings {
    fn lines(&self) -> String {
        let mut text = String::new();
        self.mistakes.iter().for_each(|mistake| push_mistake(&mut text, mistake));
        if self.mistakes.is_empty() {
            for class in &self.classes {
                let _ = writeln!(text, "{KIND} `{}` is right", printable(class));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::class::SecretProviderClass;
    use crate::mistake::Position;

    #[test]
    fn each_line_of_a_provider_is_a_mistake() {
        let class = Class {
            object: SecretProviderClass { name: "c".into(), ..Default::default() },
            position: Position { file: "f".into(), line: 2, column: 1 },
            provider_position: None,
        };
        let mistakes = told_by_provider(&class, "a\n\n b".lines());
        let messages: Vec<_> = mistakes.iter().map(|mistake| mistake.message.as_str()).collect();
        assert_eq!(messages, ["SecretProviderClass `c`: a", "SecretProviderClass `c`: b"]);
    }
}
