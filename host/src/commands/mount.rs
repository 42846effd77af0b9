//! `coffer mount`: a class into a folder, without a cluster.
//!
//! manifests → class and Secret → plan → plugin → fetch → write → report. Everything that can go wrong before the files
//! are complete does so before the target is touched.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use coffer_sandbox::egress::Lane;
use coffer_sandbox::provider::{Pod, ServiceAccountToken};
use coffer_sandbox::secret::SecretBytes;
use jiff::Timestamp;
use tokio::time::Instant;

use super::report::{Report, Times, describe};
use super::token;
use crate::api::class::KIND;
use crate::app::App;
use crate::args::{Mount, Output};
use crate::config::Config;
use crate::error::Error;
use crate::exit::Exit;
use crate::failure::json_object;
use crate::manifest::{self, Class, Manifests, Secret};
use crate::mistake::{Mistake, Mistakes};
use crate::publish;
use crate::publish::fetch::{Before, fetch};
use crate::publish::plan::{Wish, find_grant, plan};
use crate::volume::{Change, FileSet, Target, Volume};

pub async fn run(arguments: Box<Mount>) -> Result<Exit, Error> {
    let started = Instant::now();
    let config = Config::load(arguments.shared.config.as_deref())?;
    let manifests = manifest::read(&arguments.manifests)?;
    let (class, secrets) = choose(manifests, &arguments)?;
    let tokens = arguments.tokens.iter().map(token::read).collect::<Result<_, _>>()?;
    let plan = plan(&config, wish(&arguments, &class, secrets, tokens))?;
    let grant = find_grant(&config, &class.object, class.provider_position.as_ref())?.clone();

    let app = App::new(config, 1)?;
    let plugin = app.load(&plan.provider, &grant).await?;
    let loaded = started.elapsed();
    let (class, provider, overridden) = (plan.class.clone(), plan.provider.clone(), plan.overridden.clone());
    // The one place where this command looks at the clock.
    let now = SystemTime::now();
    let fetched = fetch(&plugin, &plan, Before::default(), now, Lane::first(), Instant::now() + plan.deadline).await?;
    let (files, objects, requests) = describe(&fetched);
    let target = arguments.target.clone();
    // The sandbox lets no provider say `unchanged` about a volume that it was told nothing of.
    let fresh = fetched.files.ok_or(publish::Error::Lost { what: "the provider's answer" })?;
    let change = write(target, fresh, now, arguments.dry_run).await?;

    let report = Report {
        class,
        provider,
        plugin: plugin.ready.digest().to_string(),
        target: arguments.target.display().to_string(),
        dry_run: arguments.dry_run,
        change: change.into(),
        files,
        objects,
        overridden,
        requests,
        milliseconds: Times::new(started.elapsed(), loaded, &fetched.usage),
    };
    super::print(&match arguments.shared.output {
        Output::Table => report.tables(),
        Output::Json => json_object(&report),
    })?;
    Ok(Exit::Ok)
}

fn wish<'a>(
    arguments: &Mount,
    class: &'a Class,
    secrets: BTreeMap<String, SecretBytes>,
    tokens: Vec<ServiceAccountToken>,
) -> Wish<'a> {
    let attributes = arguments.attributes.iter().map(|a| (a.key.clone(), a.value.clone()));
    Wish {
        class: &class.object,
        provider_position: class.provider_position.clone(),
        pod: Pod {
            name: arguments.pod_name.clone(),
            namespace: namespace(arguments, class),
            uid: arguments.pod_uid.clone(),
            service_account: arguments.service_account.clone(),
        },
        attributes: attributes.collect(),
        secrets,
        tokens,
        default_mode: arguments.mode.0,
        timeout: arguments.timeout.map(|span| span.0),
    }
}

/// As in a cluster, class and Secret are looked up in the pod's namespace.
fn namespace(arguments: &Mount, class: &Class) -> String {
    let said = arguments.pod_namespace.clone().or_else(|| class.object.namespace.clone());
    said.unwrap_or_else(|| "default".to_owned())
}

/// The class and the content of the Secret that are meant.
fn choose(manifests: Manifests, arguments: &Mount) -> Result<(Class, BTreeMap<String, SecretBytes>), Error> {
    let Manifests { classes, secrets, skipped, mistakes } = manifests;
    if !mistakes.is_empty() {
        return Err(Mistakes(mistakes).into());
    }
    if classes.is_empty() {
        let mut kinds: Vec<_> = skipped.iter().map(|object| object.kind.as_str()).collect();
        kinds.dedup();
        let help = (!kinds.is_empty()).then(|| format!("what is there instead: {}", kinds.join(", ")));
        return Err(Mistakes::from(Mistake::anywhere(format!("there is no {KIND} in the manifests")).help(help)).into());
    }
    let class = choose_one(KIND, "--class", classes, arguments.class.as_deref(), |class| &class.object.name)?;
    let namespace = namespace(arguments, &class);
    check_namespace(KIND, &class.object.name, class.object.namespace.as_deref(), &class.position, &namespace)?;
    if secrets.is_empty() && arguments.secret.is_none() {
        return Ok((class, BTreeMap::new()));
    }
    let secret: Secret = choose_one("Secret", "--secret", secrets, arguments.secret.as_deref(), |secret| &secret.name)?;
    check_namespace("Secret", &secret.name, secret.namespace.as_deref(), &secret.position, &namespace)?;
    Ok((class, secret.data))
}

fn choose_one<T>(
    kind: &str,
    option: &str,
    mut objects: Vec<T>,
    wanted: Option<&str>,
    name: impl Fn(&T) -> &String,
) -> Result<T, Error> {
    let names: Vec<String> = objects.iter().map(|object| name(object).clone()).collect();
    let index = match wanted {
        Some(wanted) => names.iter().position(|name| name == wanted),
        None if names.len() == 1 => Some(0),
        None => None,
    };
    if let Some(index) = index {
        return Ok(objects.swap_remove(index));
    }
    let (message, help) = match wanted {
        Some(wanted) => {
            let help = crate::nearest::did_you_mean(wanted, names.iter().map(String::as_str));
            (format!("there is no {kind} `{wanted}` in the manifests"), help)
        }
        None => (format!("the manifests hold several objects of kind {kind}"), None),
    };
    let help = help.unwrap_or_else(|| format!("choose with {option}: {}", names.join(", ")));
    Err(Error::Selection { message, help: (!names.is_empty()).then_some(help) })
}

fn check_namespace(
    kind: &str,
    name: &str,
    namespace: Option<&str>,
    position: &crate::mistake::Position,
    pod: &str,
) -> Result<(), Error> {
    match namespace {
        Some(namespace) if namespace != pod => {
            let message = format!("{kind} `{name}` is in namespace `{namespace}`, the pod is in `{pod}`");
            let help = String::from("a pod uses objects of its own namespace; say it with --pod-namespace");
            Err(Mistakes::from(Mistake::at(position.clone(), message).help(help)).into())
        }
        _ => Ok(()),
    }
}

/// Writes, or says what would be written. Blocking, so on a thread of its own.
async fn write(target: PathBuf, files: FileSet, now: SystemTime, dry_run: bool) -> Result<Change, Error> {
    let task = tokio::task::spawn_blocking(move || match dry_run {
        true => preview(target, &files, now),
        false => replace(target, &files, now),
    });
    task.await.map_err(Error::Task)?
}

fn replace(target: PathBuf, files: &FileSet, now: SystemTime) -> Result<Change, Error> {
    // Removed again, should writing fail.
    let prepared = Target::prepare(&target)?;
    let mut volume = Volume::open(prepared.path())?;
    let change = volume.replace(files, stamp(now)).map_err(|source| Error::Write { target, source })?;
    prepared.keep();
    Ok(change)
}

fn preview(target: PathBuf, files: &FileSet, now: SystemTime) -> Result<Change, Error> {
    if !target.exists() {
        return Ok(Change::Replaced { written: files.len(), removed: 0 });
    }
    let volume = Volume::open(&target)?;
    volume.preview(files, stamp(now)).map_err(|source| Error::Write { target, source })
}

/// The clock of a machine that is outside of what a timestamp can be is as good as none.
fn stamp(now: SystemTime) -> Timestamp {
    Timestamp::try_from(now).unwrap_or_default()
}
