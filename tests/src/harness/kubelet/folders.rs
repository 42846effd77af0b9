//! What kubelet makes before it calls a driver, and what it removes afterwards: a folder for each volume with a note
//! about it, `vol_data.json`, beside the target.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use serde_json::json;

use super::CallError;

/// kubelet finds volumes by it after a restart.
const NOTE: &str = "vol_data.json";

/// Makes what is above the target, mode 0750, and the note.
pub(super) fn make_parent(target: &Path, volume_id: &str, driver: &str) -> Result<(), CallError> {
    let folder = target.parent().unwrap_or(target);
    DirBuilder::new().recursive(true).mode(0o750).create(folder).map_err(failed("create", folder))?;
    let name = folder.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let note = json!({
        "attachmentID": "", "driverName": driver, "nodeName": "node", "specVolID": name,
        "volumeHandle": volume_id, "volumeLifecycleMode": "Ephemeral",
    });
    let path = folder.join(NOTE);
    fs::write(&path, note.to_string()).map_err(failed("write", &path))
}

/// Removes the target, the note and the volume's folder, unless something is mounted: then all of them stay.
pub(super) fn remove(target: &Path) -> Result<(), CallError> {
    if is_mounted(target).map_err(failed("look at", target))? {
        return Ok(());
    }
    absent(fs::remove_dir(target)).map_err(failed("remove", target))?;
    let folder = target.parent().unwrap_or(target);
    let note = folder.join(NOTE);
    absent(fs::remove_file(&note)).map_err(failed("remove", &note))?;
    absent(fs::remove_dir(folder)).map_err(failed("remove", folder))
}

/// Removes folders below `folder`, or itself where the name is empty; each must be empty.
pub(super) fn remove_empty(folder: &Path, names: &[&str]) -> Result<(), CallError> {
    names
        .iter()
        .map(|name| folder.join(name))
        .try_for_each(|path| absent(fs::remove_dir(&path)).map_err(failed("remove", &path)))
}

/// kubelet's own test: the target is on another file system than its parent.
fn is_mounted(target: &Path) -> io::Result<bool> {
    let parent = target.parent().unwrap_or(target);
    match (fs::metadata(target), fs::metadata(parent)) {
        (Ok(target), Ok(parent)) => Ok(target.dev() != parent.dev()),
        (Err(error), _) | (_, Err(error)) if error.kind() == ErrorKind::NotFound => Ok(false),
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

fn absent(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn failed<'a>(operation: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> CallError + 'a {
    move |source| CallError::Folder { operation, path: path.to_owned(), source }
}
