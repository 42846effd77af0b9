//! The system calls for mounts. Everything acts on descriptors, and where the kernel takes paths only, on their names in
//! `/proc/self/fd`.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Once;

use rustix::fs::{AtFlags, FsWord, Mode, OFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags};

use super::error::{Fault, Problem};
use super::walk::Place;
use super::{Options, PAGE};

/// Type and source, as the reference has them.
const TMPFS: &str = "tmpfs";
const TMPFS_MAGIC: FsWord = 0x0102_1994;
/// Keeps secrets out of the swap. Since Linux 6.4, and not in a user namespace.
const NOSWAP: &str = "noswap";

/// A tmpfs that was mounted. Dropped without [`Tmpfs::keep`] it is unmounted again.
#[derive(Debug)]
pub(super) struct Tmpfs {
    place: Place,
    root: OwnedFd,
    kept: bool,
}

impl Tmpfs {
    /// Mounts on `folder`, which is at `place`. It is writable, for refreshes; that a pod cannot write is kubelet's
    /// doing, which asks for volumes that are read-only.
    pub(super) fn mount(place: Place, folder: &OwnedFd, options: &Options) -> Result<Self, Fault> {
        let root = match detached(options) {
            Ok(root) => {
                let here = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
                rustix::mount::move_mount(&root, "", folder, "", here).map_err(place.failed("mount a tmpfs at"))?;
                root
            }
            // Before Linux 5.2, or behind a filter that does not know the calls.
            Err(Errno::NOSYS | Errno::PERM) => by_path(&place, folder, options)?,
            Err(error) => return Err(place.failed("make a tmpfs for")(error)),
        };
        Ok(Self { place, root, kept: false })
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    pub(super) fn root(&self) -> &OwnedFd {
        &self.root
    }

    pub(super) fn keep(mut self) {
        self.kept = true;
    }

    /// Unmounts by descriptor, so wherever somebody may have moved the folder. That takes what lies on top, which must
    /// not be somebody else's.
    fn unmount(&self) -> rustix::io::Result<()> {
        if let Ok(Some(folder)) = self.place.folder()
            && is_mount(folder.as_fd(), self.place.above.as_fd())?
            && device(folder.as_fd())? != device(self.root.as_fd())?
        {
            return Err(Errno::BUSY);
        }
        rustix::mount::unmount(name_of(self.root.as_fd()), UnmountFlags::DETACH)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        if let Err(error) = self.unmount() {
            let target = self.place.path.display();
            tracing::warn!(%target, %error, "cannot unmount what an unfinished publish mounted; the next one goes on with it");
        }
    }
}

/// Whether something is mounted on the folder that is opened. Before Linux 5.8 a bind mount within one file system is
/// not seen.
pub(super) fn is_mount(folder: BorrowedFd<'_>, above: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    match rustix::fs::statx(folder, "", AtFlags::EMPTY_PATH, StatxFlags::empty()) {
        Ok(stat) if stat.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) => {
            Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
        }
        Ok(_) | Err(Errno::NOSYS) => Ok(device(folder)? != device(above)?),
        Err(error) => Err(error),
    }
}

pub(super) fn is_tmpfs(folder: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    Ok(rustix::fs::fstatfs(folder)?.f_type == TMPFS_MAGIC)
}

/// The same folder, to be read.
pub(super) fn reopen(folder: BorrowedFd<'_>) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(folder, ".", flags, Mode::empty())
}

/// Unmounts what lies on top at a place, at once and whoever uses it. False if nothing is mounted there.
pub(super) fn unmount(place: &Place) -> rustix::io::Result<bool> {
    let path = name_of(place.above.as_fd()).join(&place.name);
    match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) => Ok(true),
        Err(Errno::INVAL | Errno::NOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

fn device(folder: BorrowedFd<'_>) -> rustix::io::Result<u64> {
    Ok(rustix::fs::fstat(folder)?.st_dev)
}

fn name_of(opened: BorrowedFd<'_>) -> PathBuf {
    Path::new("/proc/self/fd").join(opened.as_raw_fd().to_string())
}

/// A tmpfs that is mounted nowhere yet, and vanishes with its descriptor if it never is.
fn detached(options: &Options) -> rustix::io::Result<OwnedFd> {
    let tmpfs = rustix::mount::fsopen(TMPFS, FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&tmpfs, "source", TMPFS)?;
    for (key, value) in settings(options) {
        rustix::mount::fsconfig_set_string(&tmpfs, key, value)?;
    }
    match rustix::mount::fsconfig_set_flag(&tmpfs, NOSWAP) {
        Err(Errno::INVAL) => note_that_it_may_swap(),
        other => other?,
    }
    rustix::mount::fsconfig_create(&tmpfs)?;
    let attributes =
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    rustix::mount::fsmount(&tmpfs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// The old way, which hands out no descriptor: what was mounted is opened by its place and looked at.
fn by_path(place: &Place, folder: &OwnedFd, options: &Options) -> Result<OwnedFd, Fault> {
    let data: Vec<String> = settings(options).iter().map(|(key, value)| format!("{key}={value}")).collect();
    let data = data.join(",");
    let mount = |data: String| {
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        let data = CString::new(data).map_err(|_| Errno::INVAL)?;
        rustix::mount::mount(TMPFS, name_of(folder.as_fd()), TMPFS, flags, data.as_c_str())
    };
    let mounted = match mount(format!("{data},{NOSWAP}")) {
        Err(Errno::INVAL) => mount(data).inspect(|()| note_that_it_may_swap()),
        other => other,
    };
    mounted.map_err(place.failed("mount a tmpfs at"))?;
    let failed = || place.failed("read");
    let root = place.folder()?.ok_or(Problem::Moved)?;
    let mounted = is_tmpfs(root.as_fd()).map_err(failed())?
        && device(root.as_fd()).map_err(failed())? != device(folder.as_fd()).map_err(failed())?;
    if mounted { Ok(root) } else { Err(Problem::Moved.into()) }
}

/// To a tmpfs, 0 means that there is no limit.
fn settings(options: &Options) -> Vec<(&'static str, String)> {
    let mut settings = vec![
        ("mode", "0755".to_owned()),
        ("nr_blocks", options.bytes.div_ceil(PAGE).max(1).to_string()),
        ("nr_inodes", options.inodes.max(1).to_string()),
    ];
    settings.extend(options.group.map(|group| ("gid", group.to_string())));
    settings
}

fn note_that_it_may_swap() {
    static NOTE: Once = Once::new();
    NOTE.call_once(|| tracing::debug!("this kernel does not let a tmpfs be kept out of the swap (Linux 6.4 does)"));
}
