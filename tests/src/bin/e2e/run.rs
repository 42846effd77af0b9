//! Runs the scenarios, tells of each in a line, keeps what explains a failure, and prints the figures.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::{Instant, timeout};

use super::Args;
use super::scenarios::{ALL, Scenario};
use super::world::World;

/// How long one scenario may take.
const SCENARIO: Duration = Duration::from_secs(300);

pub(crate) struct Run {
    args: Args,
}

impl Run {
    pub(crate) fn new(args: Args) -> Self {
        Self { args }
    }

    /// Whether everything worked. Where the driver cannot be installed, nothing else is tried.
    pub(crate) async fn all(&self) -> Result<bool> {
        let fits = |word: &String| ALL.iter().any(|scenario| scenario.name.contains(word.as_str()));
        if let Some(word) = self.args.only.iter().find(|word| !fits(word)) {
            let names: Vec<&str> = ALL.iter().map(|scenario| scenario.name).collect();
            anyhow::bail!("no scenario has `{word}` in its name; there are: {}", names.join(", "));
        }
        let world = World::new(&self.args).await?;
        let wanted: Vec<&Scenario> = ALL.iter().filter(|scenario| self.wants(scenario)).collect();
        let mut worked = 0;
        for (number, scenario) in wanted.iter().enumerate() {
            say(&format!("[{:>2}/{}] {:<86}", number + 1, wanted.len(), scenario.sentence), "")?;
            let started = Instant::now();
            let result = match timeout(SCENARIO, (scenario.run)(&world)).await {
                Ok(result) => result,
                Err(_) => Err(anyhow::anyhow!("it did not end in {} s", SCENARIO.as_secs())),
            };
            let seconds = started.elapsed().as_secs_f64();
            match result {
                Ok(()) => {
                    worked += 1;
                    say(&format!("{seconds:6.1} s"), "\n")?;
                }
                Err(error) => {
                    say(&format!("{seconds:6.1} s  FAILED\n{error:?}"), "\n")?;
                    self.keep(&world, scenario).await.context("what explains a failure cannot be kept")?;
                    if scenario.needed {
                        break;
                    }
                    // The next one counts volumes.
                    world.cluster.delete_all_pods().await?;
                }
            }
        }
        say(&format!("\n{}", world.figures), "\n")?;
        say(&format!("{worked} of {} scenarios worked", wanted.len()), "\n")?;
        Ok(worked == wanted.len())
    }

    fn wants(&self, scenario: &Scenario) -> bool {
        let named = |word: &String| scenario.name.contains(word.as_str());
        scenario.needed || self.args.only.is_empty() || self.args.only.iter().any(named)
    }

    async fn keep(&self, world: &World, scenario: &Scenario) -> Result<()> {
        let folder = self.args.failures.join(scenario.name);
        world.cluster.node(&["logs", &folder.display().to_string()]).await?;
        say(&format!("        what explains it is in {}", folder.display()), "\n")
    }
}

fn say(text: &str, end: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    write!(out, "{text}{end}")?;
    Ok(out.flush()?)
}
