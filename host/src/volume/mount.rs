//! The tmpfs of a volume: whether it is there, making it, taking it away. Called by `publish` and by `csi` for
//! unpublish.
//!
//! The mount is the truth: nothing is remembered about it, it is looked at. No link is followed on the way to a target,
//! and what was found is used by descriptor (`walk`), so nothing can be put in its place between the check and the use.
//! A call takes away only what it made itself, except [`remove`], which takes away everything. What is not a tmpfs is
//! never written to: secrets do not go to a disk.

mod error;
mod linux;
mod removal;
mod walk;

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use super::{Limits, Volume, layout};
use error::{Fault, Problem};
use linux::Tmpfs;
use walk::{Made, Place};

pub use error::MountError;

/// What a file is rounded up to, and what a long link takes. Where the kernel's pages are larger, a volume may take as
/// many of those: what must fit is counted in pages.
const PAGE: u64 = 4096;

/// What stands at a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing, or a folder that nothing is mounted on, whatever is in it.
    Nothing,
    /// A mount without a version in force: a publish that did not end.
    Unfinished,
    /// A mount whose `..data` leads to a folder, whoever made it.
    Published,
}

/// How to mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Size of the tmpfs in bytes.
    pub bytes: u64,
    /// Its files, folders and links.
    pub inodes: u64,
    /// The group that owns everything in it (`volume_mount_group`); none leaves it with the process's.
    pub group: Option<u32>,
}

impl Options {
    /// What holds every volume within `limits` twice, because a refresh writes the new version beside the old one. It is
    /// a bound and no reservation: a tmpfs takes what is in it.
    #[must_use]
    pub fn for_limits(limits: &Limits, group: Option<u32>) -> Self {
        let [files, folders, bytes] = [limits.files, limits.folders, limits.bytes].map(|count| count as u64);
        // Each file may end with a page that is hardly used, and each may need a link of its own, whose text takes a
        // page where its name is long.
        let pages = (bytes / PAGE).saturating_add(files).saturating_add(files);
        // The version's own folder and the link to it besides.
        let inodes = files.saturating_add(folders).saturating_add(files).saturating_add(2);
        Self {
            bytes: pages.saturating_mul(2).saturating_mul(PAGE),
            // The root; and a quarter more, because since Linux 6.6 security labels are charged as inodes, which count
            // for 1024 bytes each.
            inodes: inodes.saturating_mul(2).saturating_add(1).saturating_mul(5) / 4,
            group,
        }
    }
}

/// What stands at `target` now.
///
/// # Errors
/// When a link or a file is in the way, or what is mounted there cannot be read. Then it is not known what stands there,
/// and nothing may be concluded from it.
pub fn look(target: &Path) -> Result<Standing, MountError> {
    let look = || {
        let Some(place) = Place::find(target)? else { return Ok(Standing::Nothing) };
        let Some(folder) = place.folder()? else { return Ok(Standing::Nothing) };
        standing(&place, &folder)
    };
    look().map_err(Fault::in_trying_to("look at", target))
}

/// A published or adopted volume, to be refreshed in place. What is written from now on belongs to `group`.
///
/// # Errors
/// When no tmpfs is mounted there, or a link or a file is in the way.
pub fn open(target: &Path, group: Option<u32>) -> Result<Volume, MountError> {
    let open = || {
        check_group(group)?;
        let place = Place::find(target)?.ok_or(Problem::NotMounted)?;
        let folder = place.folder()?.ok_or(Problem::NotMounted)?;
        if !linux::is_mount(folder.as_fd(), place.above.as_fd()).map_err(place.failed("read"))? {
            return Err(Problem::NotMounted.into());
        }
        volume(&place, &folder, group)
    };
    open().map_err(Fault::in_trying_to("open the volume at", target))
}

/// A mount that is being made, or one that was left unfinished. Dropped without [`Mounting::keep`], all that this call
/// made is removed again: mount, folder, folders above.
#[derive(Debug)]
pub struct Mounting {
    // Dropped in this order: the mount goes before the folder that it covers.
    volume: Volume,
    mounted: Option<Tmpfs>,
    made: Made,
}

impl Mounting {
    /// Makes the folders that are missing (mode 0750 less the umask, as the reference) and mounts a tmpfs, or goes on
    /// with the unfinished mount that is there instead of stacking another. If the folder holds something, the mount
    /// covers it, and it comes back when the mount is gone.
    ///
    /// # Errors
    /// When a link or a file is in the way, when a published volume or something else than a tmpfs is mounted there, or
    /// when a system call fails. Nothing is left behind then.
    pub fn begin(target: &Path, options: &Options) -> Result<Self, MountError> {
        let begin = || {
            check_group(options.group)?;
            let (place, folder, made) = Place::make(target)?;
            match standing(&place, &folder)? {
                Standing::Published => Err(Problem::Published.into()),
                Standing::Unfinished => {
                    let volume = volume(&place, &folder, options.group)?;
                    Ok(Self { volume, mounted: None, made })
                }
                Standing::Nothing => {
                    let mounted = Tmpfs::mount(place, &folder, options)?;
                    let volume = volume(mounted.place(), mounted.root(), options.group)?;
                    Ok(Self { volume, mounted: Some(mounted), made })
                }
            }
        };
        begin().map_err(Fault::in_trying_to("mount a tmpfs at", target))
    }

    /// The volume.
    pub fn volume(&mut self) -> &mut Volume {
        &mut self.volume
    }

    /// Leaves everything in place.
    pub fn keep(self) {
        let Self { mounted, made, .. } = self;
        if let Some(mounted) = mounted {
            mounted.keep();
        }
        made.keep();
    }
}

/// Takes the volume away: every mount that is stacked there, and the folder with whatever is in it. That there is none
/// is fine. Never follows a link, never leaves the folder's own file system. Does not wait for those who use the volume:
/// its files are gone when the last of them has closed them, and as they are nowhere but in memory, nothing is wiped.
///
/// # Errors
/// When a link or a file stands above the target, or a system call fails. What could not be removed stays, and the next
/// call goes on with it.
pub fn remove(target: &Path) -> Result<(), MountError> {
    let remove = || match Place::find(target)? {
        Some(place) => removal::remove(&place),
        None => Ok(()),
    };
    remove().map_err(Fault::in_trying_to("remove", target))
}

fn standing(place: &Place, folder: &OwnedFd) -> Result<Standing, Fault> {
    if !linux::is_mount(folder.as_fd(), place.above.as_fd()).map_err(place.failed("read"))? {
        return Ok(Standing::Nothing);
    }
    match layout::has_version(folder.as_fd()).map_err(place.failed("read"))? {
        true => Ok(Standing::Published),
        false => Ok(Standing::Unfinished),
    }
}

fn volume(place: &Place, root: &OwnedFd, group: Option<u32>) -> Result<Volume, Fault> {
    if !linux::is_tmpfs(root.as_fd()).map_err(place.failed("read"))? {
        return Err(Problem::NotTmpfs.into());
    }
    let folder = linux::reopen(root.as_fd()).map_err(place.failed("open"))?;
    Ok(Volume { folder, group })
}

/// The highest number means "leave the group as it is" to the kernel.
fn check_group(group: Option<u32>) -> Result<(), Fault> {
    match group {
        Some(u32::MAX) => Err(Problem::Group.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_limits_need_less_than_24_mib_and_no_limit_overflows() {
        let options = Options::for_limits(&Limits::default(), None);
        assert_eq!(options, Options { bytes: 6_048 * PAGE, inodes: 7_506, group: None });
        let endless = Limits { files: usize::MAX, folders: usize::MAX, bytes: usize::MAX };
        assert_eq!(Options::for_limits(&endless, Some(1)).bytes, u64::MAX);
    }

    #[test]
    fn a_volume_that_may_hold_nothing_still_has_room_for_a_version_without_files() {
        let nothing = Limits { files: 0, folders: 0, bytes: 0 };
        assert_eq!(Options::for_limits(&nothing, None), Options { bytes: 0, inodes: 6, group: None });
    }
}
