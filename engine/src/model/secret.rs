//! References to secrets, and their values, which never show themselves.

use std::fmt;
use std::path::PathBuf;

/// Where a value comes from. Pipeline files name secrets, they never hold them.
#[derive(Clone, PartialEq, Eq, Debug)]
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
    /// `{ file = "path", prefix = "…" }`: a file's text without its last line break, read at every use.
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
    #[error("file {0} can't be read: {1}")]
    File(PathBuf, std::io::ErrorKind),
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
                let value = std::fs::read_to_string(path)
                    .map_err(|error| SecretError::File(path.clone(), error.kind()))?;
                joined(prefix, value.trim_end_matches(['\r', '\n']), || format!("file {}", path.display()))
            }
        }
    }
}

fn joined(prefix: &str, value: &str, which: impl Fn() -> String) -> Result<SecretText, SecretError> {
    if value.is_empty() {
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
