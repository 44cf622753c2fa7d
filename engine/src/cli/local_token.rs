//! The token of an engine without `[[token]]`: made at each start, written where only its user can read it, and read from there
//! by the commands of that user. What comes from this machine need not come from that user: a proxy passes on what others send,
//! and an event can be sent to any address.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;

use crate::model::SecretText;

/// Bytes of a token, by chance.
const BYTES: usize = 32;
/// Longest file that is read.
const FILE_BYTES_MAX: u64 = 1024;

/// A token that others of this user can read while it lives.
pub(crate) struct LocalToken {
    path: PathBuf,
    token: String,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LocalTokenError {
    #[error("none of XDG_RUNTIME_DIR, XDG_STATE_HOME and HOME is set, so there is no folder for it")]
    Homeless,
    #[error("{0} is not a folder that belongs to this user alone (mode 0700)")]
    Unsafe(PathBuf),
    #[error("{0} can't be written")]
    Write(PathBuf, #[source] io::Error),
}

impl LocalToken {
    /// Makes one for the engine that listens on `port`; another engine's before it is gone.
    pub(crate) fn make(port: u16) -> Result<Self, LocalTokenError> {
        Self::make_in(&folder(|name| std::env::var_os(name))?, port)
    }

    fn make_in(folder: &Path, port: u16) -> Result<Self, LocalTokenError> {
        let written = |error| LocalTokenError::Write(folder.to_owned(), error);
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(written)?;
        let token = HEXLOWER.encode(&rand::random::<[u8; BYTES]>());
        let draft = folder.join(format!(".admin-{port}.{:016x}", rand::random::<u64>()));
        let made =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(written)?;
        let kept = Self::keep(&made, folder, &draft, port, &token);
        if kept.is_err() {
            let _ = std::fs::remove_file(&draft);
        }
        Ok(Self { path: kept?, token })
    }

    /// The folder is judged by what was made in it: a file of ours shows who we are.
    fn keep(
        mut made: &File,
        folder: &Path,
        draft: &Path,
        port: u16,
        token: &str,
    ) -> Result<PathBuf, LocalTokenError> {
        let path = file(folder, port);
        let written = |error| LocalTokenError::Write(path.clone(), error);
        let (about, ours) =
            (std::fs::symlink_metadata(folder).map_err(written)?, made.metadata().map_err(written)?);
        if !about.is_dir() || about.uid() != ours.uid() || about.mode() & 0o077 != 0 {
            return Err(LocalTokenError::Unsafe(folder.to_owned()));
        }
        made.write_all(token.as_bytes()).and_then(|()| std::fs::rename(draft, &path)).map_err(written)?;
        Ok(path)
    }

    /// Where it stands.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The token.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }
}

impl Drop for LocalToken {
    /// Unless another engine has taken the port, and its file the place.
    fn drop(&mut self) {
        if std::fs::read_to_string(&self.path).is_ok_and(|there| there == self.token) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The token of the engine of this user that listens on `port` of this machine, if there is one.
pub(crate) fn of_engine_at(port: u16) -> Option<SecretText> {
    read(&file(&folder(|name| std::env::var_os(name)).ok()?, port))
}

fn read(path: &Path) -> Option<SecretText> {
    let about = std::fs::symlink_metadata(path).ok()?;
    // What others can write, or have put there as a link, is nobody's word.
    if !about.is_file() || about.mode() & 0o077 != 0 || about.len() > FILE_BYTES_MAX {
        return None;
    }
    let mut text = String::new();
    File::open(path).ok()?.take(FILE_BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(SecretText::new(text.trim().to_owned()))
}

fn file(folder: &Path, port: u16) -> PathBuf {
    folder.join(format!("admin-{port}.token"))
}

/// XDG Base Directory Specification 0.8: the runtime folder, else that of state.
fn folder(variable: impl Fn(&str) -> Option<std::ffi::OsString>) -> Result<PathBuf, LocalTokenError> {
    let set = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = set("XDG_RUNTIME_DIR")
        .or_else(|| set("XDG_STATE_HOME"))
        .or_else(|| set("HOME").map(|home| home.join(".local/state")));
    base.map(|base| base.join("hookmill")).ok_or(LocalTokenError::Homeless)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_token_is_for_its_user_alone_and_goes_with_its_engine() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("state/hookmill");
        let made = LocalToken::make_in(&folder, 8470).unwrap();
        let path = made.path().to_owned();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&path), mode(&folder)), (0o600, 0o700));
        assert_eq!(read(&path).unwrap().expose(), made.token());
        assert_eq!(made.token().len(), 64);
        let next = LocalToken::make_in(&folder, 8470).unwrap();
        assert_ne!(next.token(), made.token());
        drop(made);
        assert_eq!(read(&path).unwrap().expose(), next.token(), "the next engine's stays");
        drop(next);
        assert!(!path.exists() && std::fs::read_dir(&folder).unwrap().next().is_none());
    }

    #[test]
    fn a_folder_that_others_may_use_and_a_file_that_they_could_have_written_are_not_trusted() {
        let base = tempfile::tempdir().unwrap();
        let open = base.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(LocalToken::make_in(&open, 1), Err(LocalTokenError::Unsafe(_))));
        assert!(std::fs::read_dir(&open).unwrap().next().is_none(), "nothing stays behind");
        let link = base.path().join("link");
        let real = base.path().join("real");
        DirBuilder::new().mode(0o700).create(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert!(matches!(LocalToken::make_in(&link, 1), Err(LocalTokenError::Unsafe(_))));
        let file = base.path().join("admin-1.token");
        std::fs::write(&file, "x").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read(&file).is_none());
        let linked = base.path().join("admin-2.token");
        std::os::unix::fs::symlink(&file, &linked).unwrap();
        assert!(read(&linked).is_none() && read(&base.path().join("none")).is_none());
    }

    #[test]
    fn the_folder_is_the_runtime_one_or_that_of_state() {
        let of = |set: &[(&str, &str)]| {
            let set: Vec<(String, String)> =
                set.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
            let found = folder(|name| set.iter().find(|(set, _)| set == name).map(|(_, value)| value.into()));
            found.map(|path| path.display().to_string()).unwrap_or_default()
        };
        assert_eq!(of(&[("XDG_RUNTIME_DIR", "/run/user/1"), ("HOME", "/h")]), "/run/user/1/hookmill");
        assert_eq!(of(&[("XDG_STATE_HOME", "/s"), ("HOME", "/h")]), "/s/hookmill");
        assert_eq!(of(&[("XDG_RUNTIME_DIR", "relative"), ("HOME", "/h")]), "/h/.local/state/hookmill");
        assert_eq!(of(&[]), "");
    }
}
