//! The folder that a volume is in. Makes it where it is missing, and takes away exactly what it made if the rest of a
//! first publish, or of `coffer mount`, does not work out. It never removes a folder that it did not make or that holds
//! something.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::layout::FOLDER_MODE;

/// A folder that exists. Dropped without [`Target::keep`], the folders that were made for it are removed again.
#[derive(Debug)]
pub struct Target {
    path: PathBuf,
    /// From the outermost to the innermost.
    made: Vec<PathBuf>,
}

/// The folder cannot be made.
#[derive(Debug, Error)]
#[error("cannot create the folder {}: check that what is above it is a folder that Coffer may write", .path.display())]
pub struct TargetError {
    path: PathBuf,
    source: io::Error,
}

impl Target {
    /// Makes the folder `path` and those above it that are missing, mode 0755 whatever the umask.
    ///
    /// # Errors
    /// When a folder cannot be made; those made until then are removed.
    pub fn prepare(path: &Path) -> Result<Self, TargetError> {
        // Absolute, so that it means the same folder when it is dropped.
        let path = std::path::absolute(path).map_err(|source| TargetError { path: path.to_owned(), source })?;
        let missing: Vec<&Path> = path.ancestors().take_while(|folder| !folder.is_dir()).collect();
        let mut target = Self { path: path.clone(), made: Vec::new() };
        for folder in missing.into_iter().rev() {
            target.make(folder).map_err(|source| TargetError { path: folder.to_owned(), source })?;
        }
        Ok(target)
    }

    /// The folder, as an absolute path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the folder was missing.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.made.last() == Some(&self.path)
    }

    /// Leaves everything in place.
    pub fn keep(mut self) {
        self.made.clear();
    }

    fn make(&mut self, folder: &Path) -> io::Result<()> {
        match DirBuilder::new().mode(FOLDER_MODE).create(folder) {
            // Somebody else was faster, so it is theirs.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
            Err(error) => Err(error),
            Ok(()) => {
                self.made.push(folder.to_owned());
                std::fs::set_permissions(folder, Permissions::from_mode(FOLDER_MODE))
            }
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        for folder in self.made.iter().rev() {
            // Fails where somebody has put something into it, and then it must stay.
            if std::fs::remove_dir(folder).is_err() {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn what_was_made_is_removed_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let there = root.path().join("there");
        std::fs::create_dir(&there).unwrap();
        let target = Target::prepare(&there.join("a/b/c")).unwrap();
        assert!(target.is_new());
        assert_eq!((mode(&there.join("a")), mode(target.path())), (0o755, 0o755));
        drop(target);
        assert_eq!(std::fs::read_dir(&there).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_was_there_stays() {
        let root = tempfile::tempdir().unwrap();
        let target = Target::prepare(root.path()).unwrap();
        assert!(!target.is_new());
        drop(target);
        assert!(root.path().is_dir());
    }

    #[test]
    fn what_is_kept_stays() {
        let root = tempfile::tempdir().unwrap();
        Target::prepare(&root.path().join("a/b")).unwrap().keep();
        assert!(root.path().join("a/b").is_dir());
    }

    #[test]
    fn a_folder_that_somebody_uses_stays_and_so_does_what_is_above_it() {
        let root = tempfile::tempdir().unwrap();
        let target = Target::prepare(&root.path().join("a/b/c")).unwrap();
        std::fs::write(root.path().join("a/b/foreign"), "").unwrap();
        drop(target);
        assert!(root.path().join("a/b/foreign").exists());
        assert!(!root.path().join("a/b/c").exists());
    }

    #[test]
    fn a_file_in_the_way_is_an_error_that_names_it_and_leaves_nothing_behind() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("file"), "").unwrap();
        let error = Target::prepare(&root.path().join("file/a")).unwrap_err();
        assert!(error.to_string().contains("/file"), "{error}");
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
    }
}
