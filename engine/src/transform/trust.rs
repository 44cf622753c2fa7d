//! Whether a folder belongs to this engine's user alone. Loading native code from it is as good as running a program
//! from it.

use std::fs::{DirBuilder, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// Write permission of the group and of all others. The group's bits also tell what an access-control list allows.
const OTHERS_WRITE: u32 = 0o022;

/// Only the owner of an entry may rename or remove it.
const STICKY: u32 = 0o1000;

/// Why a folder or file isn't used. Each text says what was found and how to mend it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Distrust {
    #[error("it can't be made or looked at: {0}")]
    Io(io::Error),
    #[error("it is a symbolic link; name the folder that it leads to")]
    Link,
    #[error("it is no {0}")]
    Kind(&'static str),
    #[error("it belongs to user {owner}, and this engine runs as user {own}")]
    Owner { owner: u32, own: u32 },
    #[error("others may write to it (mode {mode:04o}); take that away: chmod go-w {}", .path.display())]
    Mode { mode: u32, path: PathBuf },
    #[error("{} above it belongs to user {owner}, who could put another folder in its place", .path.display())]
    ParentOwner { path: PathBuf, owner: u32 },
    #[error(
        "others may write to {} above it (mode {mode:04o}) and could put another folder in its place",
        .path.display()
    )]
    ParentMode { path: PathBuf, mode: u32 },
}

impl From<io::Error> for Distrust {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Makes a folder, and those above it that are missing, for this user alone; one that is there stays as it is.
pub(super) fn make(folder: &Path) -> Result<(), Distrust> {
    Ok(DirBuilder::new().recursive(true).mode(0o700).create(folder)?)
}

/// A new folder within another one, for this user alone. Removed when dropped.
pub(super) fn new_folder(prefix: &str, within: &Path) -> io::Result<TempDir> {
    let private = Permissions::from_mode(0o700);
    tempfile::Builder::new().prefix(prefix).permissions(private).tempdir_in(within)
}

/// A new folder in the system's place for what doesn't last. Locked as long as it is in use, so that [`sweep`] knows when
/// whoever made it has died.
#[derive(Debug)]
pub(super) struct Passing {
    folder: TempDir,
    // Closed, and by that unlocked, by the kernel whatever becomes of the process.
    _lock: File,
}

/// How the names of passing folders begin.
const PASSING: &str = "hookmill-";

/// The file in a passing folder that is locked.
const LOCK: &str = "in-use.lock";

impl Passing {
    /// A new one, for this user alone.
    pub(super) fn new() -> io::Result<Self> {
        Self::within(&std::env::temp_dir())
    }

    fn within(place: &Path) -> io::Result<Self> {
        let passing = new_folder(PASSING, place)?;
        folder(passing.path()).map_err(io::Error::other)?;
        // Locked before it has its name: a lock that can be taken says that nobody uses the folder any more.
        let draft = passing.path().join(".lock");
        let lock = File::create_new(&draft)?;
        lock.lock()?;
        std::fs::rename(&draft, passing.path().join(LOCK))?;
        Ok(Self { folder: passing, _lock: lock })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Removes the passing folders of processes that were killed. What has no lock, or isn't this user's alone, is left where
/// it is: it may be somebody else's.
pub(super) fn sweep() {
    sweep_in(&std::env::temp_dir());
}

fn sweep_in(place: &Path) {
    let Ok(entries) = std::fs::read_dir(place) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if !entry.file_name().to_string_lossy().starts_with(PASSING) || folder(&path).is_err() {
            continue;
        }
        let lock = path.join(LOCK);
        let unused = file(&lock).is_ok() && File::open(&lock).is_ok_and(|lock| lock.try_lock().is_ok());
        if unused {
            match std::fs::remove_dir_all(&path) {
                Ok(()) => tracing::debug!(folder = %path.display(), "folder of a killed process removed"),
                Err(error) => tracing::debug!(folder = %path.display(), %error, "it can't be removed"),
            }
        }
    }
}

/// Looks at a folder and at everything above it.
pub(super) fn folder(path: &Path) -> Result<(), Distrust> {
    let own = own_user();
    let about = std::fs::symlink_metadata(path)?;
    if about.is_symlink() {
        return Err(Distrust::Link);
    }
    if !about.is_dir() {
        return Err(Distrust::Kind("folder"));
    }
    owned(path, &about, own)?;
    // Links above are followed once, here: what counts is who can change the way that is really taken.
    let real = std::fs::canonicalize(path)?;
    for above in real.ancestors().skip(1) {
        let about = std::fs::metadata(above)?;
        if about.uid() != own && about.uid() != 0 {
            return Err(Distrust::ParentOwner { path: above.to_owned(), owner: about.uid() });
        }
        let mode = about.mode() & 0o7777;
        if mode & OTHERS_WRITE != 0 && mode & STICKY == 0 {
            return Err(Distrust::ParentMode { path: above.to_owned(), mode });
        }
    }
    Ok(())
}

/// Looks at a file of such a folder.
pub(super) fn file(path: &Path) -> Result<(), Distrust> {
    let about = std::fs::symlink_metadata(path)?;
    if about.is_symlink() {
        return Err(Distrust::Link);
    }
    if !about.is_file() {
        return Err(Distrust::Kind("file"));
    }
    owned(path, &about, own_user())
}

fn owned(path: &Path, about: &Metadata, own: u32) -> Result<(), Distrust> {
    if about.uid() != own {
        return Err(Distrust::Owner { owner: about.uid(), own });
    }
    let mode = about.mode() & 0o7777;
    if mode & OTHERS_WRITE != 0 {
        return Err(Distrust::Mode { mode, path: path.to_owned() });
    }
    Ok(())
}

fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir, set_permissions, write};
    use std::os::unix::fs::symlink;

    use super::*;

    fn mode(path: &Path, mode: u32) {
        set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    /// A folder with a mode in another one with a mode.
    fn nested(outer: u32, inner: u32) -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("outer/inner");
        make(&path).unwrap();
        mode(&path, inner);
        mode(path.parent().unwrap(), outer);
        (root, path)
    }

    #[test]
    fn a_folder_of_ones_own_is_trusted() {
        for (outer, inner) in [(0o700, 0o700), (0o755, 0o755), (0o1777, 0o700)] {
            let (_root, path) = nested(outer, inner);
            assert!(folder(&path).is_ok(), "{outer:o} {inner:o}: {:?}", folder(&path));
        }
    }

    #[test]
    fn a_new_folder_is_for_its_user_alone() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b");
        make(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        assert!(make(&path).is_ok(), "a second time");
    }

    #[test]
    fn folders_of_the_dead_are_swept_and_nobody_elses() {
        let root = tempfile::tempdir().unwrap();
        let place = root.path();
        let alive = Passing::within(place).unwrap();
        let dead = |mode_of_folder| {
            let Passing { folder, _lock } = Passing::within(place).unwrap();
            let path = folder.keep();
            write(path.join("left-behind"), "").unwrap();
            mode(&path, mode_of_folder);
            path
        };
        let (dead, open_to_others) = (dead(0o700), dead(0o770));
        let unlocked = place.join("hookmill-nobody-knows");
        make(&unlocked).unwrap();
        let link = place.join("hookmill-link");
        symlink(&dead, &link).unwrap();
        sweep_in(place);
        assert!(!dead.exists());
        for left in [alive.path(), &open_to_others, &unlocked] {
            assert!(left.exists(), "{}", left.display());
        }
        assert!(std::fs::symlink_metadata(&link).is_ok());
        let path = alive.path().to_owned();
        drop(alive);
        assert!(!path.exists(), "removed by whoever lives to do it");
    }

    #[test]
    fn a_folder_that_others_can_write_to_is_refused() {
        for inner in [0o770, 0o720, 0o702, 0o1777] {
            let (_root, path) = nested(0o700, inner);
            let text = folder(&path).unwrap_err().to_string();
            let expected = format!(
                "others may write to it (mode {inner:04o}); take that away: chmod go-w {}",
                path.display()
            );
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn a_folder_that_others_can_exchange_is_refused() {
        for outer in [0o777, 0o770, 0o775] {
            let (_root, path) = nested(outer, 0o700);
            let text = folder(&path).unwrap_err().to_string();
            assert!(text.contains(&format!("outer above it (mode {outer:04o}) and could put")), "{text}");
        }
    }

    #[test]
    fn links_and_what_is_no_folder_are_refused() {
        let (root, path) = nested(0o700, 0o700);
        let link = root.path().join("link");
        symlink(&path, &link).unwrap();
        assert_eq!(
            folder(&link).unwrap_err().to_string(),
            "it is a symbolic link; name the folder that it leads to"
        );
        let plain = root.path().join("file");
        write(&plain, "").unwrap();
        assert_eq!(folder(&plain).unwrap_err().to_string(), "it is no folder");
        assert!(matches!(folder(&root.path().join("none")), Err(Distrust::Io(_))));
    }

    #[test]
    fn a_link_above_is_followed_to_where_it_leads() {
        let (root, path) = nested(0o777, 0o700);
        let link = root.path().join("link");
        symlink(path.parent().unwrap(), &link).unwrap();
        assert!(matches!(folder(&link.join("inner")), Err(Distrust::ParentMode { .. })));
    }

    #[test]
    fn files_are_looked_at_as_well() {
        let (_root, path) = nested(0o700, 0o700);
        let code = path.join("code");
        write(&code, "").unwrap();
        mode(&code, 0o600);
        assert!(file(&code).is_ok());
        mode(&code, 0o620);
        assert!(matches!(file(&code), Err(Distrust::Mode { .. })));
        symlink(&code, path.join("link")).unwrap();
        assert!(matches!(file(&path.join("link")), Err(Distrust::Link)));
        create_dir(path.join("sub")).unwrap();
        assert_eq!(file(&path.join("sub")).unwrap_err().to_string(), "it is no file");
    }
}
