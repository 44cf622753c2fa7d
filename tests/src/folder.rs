//! A temporary folder with pipeline files and what they refer to.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// The folder; removed when it is dropped.
#[derive(Debug)]
pub struct PipelineFolder(TempDir);

impl PipelineFolder {
    /// An empty folder.
    pub fn new() -> Self {
        Self(tempfile::Builder::new().prefix("hookmill-pipelines-").tempdir().expect("a temporary folder"))
    }

    /// One with `name`.toml in it.
    pub fn with(name: &str, text: &str) -> Self {
        let folder = Self::new();
        folder.write(&format!("{name}.toml"), text);
        folder
    }

    /// Writes a file, whole or not at all, in place of what was there. `name` may have folders in it.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        let parent = path.parent().expect("a file lies in a folder");
        std::fs::create_dir_all(parent).expect("a folder can be made");
        let fresh = tempfile::NamedTempFile::new_in(parent).expect("a file can be made");
        std::fs::write(fresh.path(), text).expect("a file can be written");
        fresh.persist(&path).expect("a file can be renamed");
        path
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Default for PipelineFolder {
    fn default() -> Self {
        Self::new()
    }
}
