//! References to secrets, and their values, which never show themselves.

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::is_out_of_files;

/// Most bytes of a secret's file.
pub const SECRET_BYTES_MAX: usize = 64 * 1024;

/// Where a value comes from. Pipeline files name secrets, they never hold them. `Debug` hides plain text: a URL can hold
/// a token.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretRef {
    /// The text itself (only for values that need not be secret: URLs, header values).
    Plain(String),
    /// `{ env = "NAME", prefix = "…" }`: an environment variable, read at every use.
    Env {
        /// The variable's name.
        name: String,
        /// Put before the value.
        prefix: String,
    },
    /// `{ file = "path", prefix = "…" }`: a file's text without the blanks and line breaks around it, read at every use.
    File {
        /// The file.
        path: PathBuf,
        /// Put before the value.
        prefix: String,
    },
}

/// Why a reference has no value. Says which reference, never what it holds.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SecretError {
    /// The variable is not set.
    #[error("environment variable {0} is not set")]
    EnvMissing(String),
    /// The variable is not UTF-8.
    #[error("environment variable {0} is not UTF-8")]
    EnvNotText(String),
    /// The file can't be read.
    #[error("file {} can't be read: {}", .0.display(), .1)]
    File(PathBuf, ErrorKind),
    /// The file can't be read at this moment, whatever it holds.
    #[error("file {} can't be read: the process has too many files open; raise its limit (`ulimit -n`)", .0.display())]
    OutOfFiles(PathBuf),
    /// There is a value and it is empty.
    #[error("{0} is empty")]
    Empty(String),
}

impl SecretRef {
    /// Reads the value now.
    pub fn resolve(&self) -> Result<SecretText, SecretError> {
        match self {
            Self::Plain(text) => Ok(SecretText(text.clone())),
            Self::Env { name, prefix } => {
                let value = std::env::var(name).map_err(|error| match error {
                    std::env::VarError::NotPresent => SecretError::EnvMissing(name.clone()),
                    std::env::VarError::NotUnicode(_) => SecretError::EnvNotText(name.clone()),
                })?;
                joined(prefix, &value, || format!("environment variable {name}"))
            }
            Self::File { path, prefix } => {
                let value = read(path)?;
                joined(prefix, value.trim(), || format!("file {}", path.display()))
            }
        }
    }
}

impl fmt::Debug for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(_) => f.write_str("Plain(…)"),
            Self::Env { name, prefix: _ } => write!(f, "Env({name})"),
            Self::File { path, prefix: _ } => write!(f, "File({})", path.display()),
        }
    }
}

/// Reads a small regular file. A pipe would block the caller, and be empty at the second read.
fn read(path: &Path) -> Result<String, SecretError> {
    let failed = |kind| SecretError::File(path.to_owned(), kind);
    let io = |error: io::Error| {
        if is_out_of_files(&error) { SecretError::OutOfFiles(path.to_owned()) } else { failed(error.kind()) }
    };
    if !std::fs::metadata(path).map_err(io)?.is_file() {
        return Err(failed(ErrorKind::InvalidInput));
    }
    let mut text = String::new();
    let limit = SECRET_BYTES_MAX as u64 + 1;
    File::open(path).map_err(io)?.take(limit).read_to_string(&mut text).map_err(io)?;
    if text.len() > SECRET_BYTES_MAX { Err(failed(ErrorKind::FileTooLarge)) } else { Ok(text) }
}

fn joined(prefix: &str, value: &str, which: impl Fn() -> String) -> Result<SecretText, SecretError> {
    if value.trim().is_empty() {
        return Err(SecretError::Empty(which()));
    }
    Ok(SecretText(format!("{prefix}{value}")))
}

/// A value that neither `Debug` nor `Display` shows.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(String);

impl SecretText {
    /// Wraps a value.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The value, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &Path) -> SecretRef {
        SecretRef::File { path: path.to_owned(), prefix: "Bearer ".into() }
    }

    #[test]
    fn a_file_gives_its_text_without_what_is_blank_around_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "abc\r\n").unwrap();
        assert_eq!(file(&path).resolve(), Ok(SecretText::new("Bearer abc")));
        std::fs::write(&path, "\n abc def \t\r\n\n").unwrap();
        assert_eq!(file(&path).resolve(), Ok(SecretText::new("Bearer abc def")));
        std::fs::write(&path, " \n").unwrap();
        let empty = file(&path).resolve().unwrap_err();
        assert_eq!(empty.to_string(), format!("file {} is empty", path.display()));
    }

    #[test]
    fn what_is_no_small_text_file_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing");
        let says = file(&missing).resolve().unwrap_err().to_string();
        assert_eq!(says, format!("file {} can't be read: entity not found", missing.display()));
        assert!(file(folder.path()).resolve().is_err(), "a folder");
        let path = folder.path().join("big");
        std::fs::write(&path, vec![b'x'; SECRET_BYTES_MAX + 1]).unwrap();
        assert_eq!(file(&path).resolve(), Err(SecretError::File(path.clone(), ErrorKind::FileTooLarge)));
        std::fs::write(&path, [0xff]).unwrap();
        assert_eq!(file(&path).resolve(), Err(SecretError::File(path.clone(), ErrorKind::InvalidData)));
    }

    #[test]
    fn a_missing_variable_is_named() {
        let reference = SecretRef::Env { name: "HOOKMILL_TEST_NOT_SET".into(), prefix: String::new() };
        let says = reference.resolve().unwrap_err().to_string();
        assert_eq!(says, "environment variable HOOKMILL_TEST_NOT_SET is not set");
    }

    #[test]
    fn debug_shows_references_and_no_values() {
        assert_eq!(format!("{:?}", SecretRef::Plain("https://x/secret".into())), "Plain(…)");
        assert_eq!(format!("{:?}", SecretText::new("secret")), "SecretText(…)");
        assert_eq!(format!("{:?}", SecretRef::Env { name: "X".into(), prefix: "p".into() }), "Env(X)");
    }
}
