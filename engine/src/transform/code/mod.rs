//! Native code: kept in a folder from one start to the next, or in a file that is gone as soon as it is loaded.
//!
//! Code from a file is run as it is, so a folder counts only if it belongs to this engine's user alone (`trust`), and a
//! file only if it is whole (`entry`). Whatever is wrong with a cache, the module is compiled again.

mod entry;

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;
use wasmtime::Engine;
use wasmtime::component::Component;

use self::entry::Label;
use super::compile::{Facts, Made};
use super::errors::HostError;
use super::settings::{Cache, CacheFolder};
use super::shelf::{self, Shelf};
use super::trust::{self, Distrust, Passing};
use crate::model::Timestamp;

/// How the names of files of native code end.
const ENDING: &str = ".native";

/// How the names of folders begin in which a compiler works.
const DRAFT: &str = ".draft-";

/// What the compiler's result is called until it counts.
const MADE: &str = "made";

/// Age at which a draft is taken for left behind: no compiler takes so long.
const DRAFT_AGE_MAX: Duration = Duration::from_hours(24);

/// The native code of all modules.
#[derive(Debug)]
pub(super) struct Codes {
    /// None: nothing is kept.
    folder: Option<PathBuf>,
    key: String,
    bytes_max: u64,
    shelf: Shelf,
}

/// A folder in which a module is compiled. What is in it doesn't count yet; removed when dropped.
#[derive(Debug)]
pub(super) struct Draft {
    folder: Place,
    /// What the compiler has made.
    file: File,
    /// Whether it stands in the folder where native code is kept.
    may_stay: bool,
}

/// Where a draft stands; removed when dropped.
#[derive(Debug)]
enum Place {
    /// Where native code is kept, or in a test.
    Kept(TempDir),
    /// Where nothing lasts.
    Passing(Passing),
}

impl Place {
    fn path(&self) -> &Path {
        match self {
            Self::Kept(folder) => folder.path(),
            Self::Passing(folder) => folder.path(),
        }
    }
}

/// Why native code can't be loaded.
#[derive(Debug)]
pub(super) enum Unloaded {
    /// The system is in the way.
    System(String),
    /// The sandbox has no room for such a component.
    Unfit(wasmtime::Error),
}

impl From<io::Error> for Unloaded {
    fn from(error: io::Error) -> Self {
        Self::System(error.to_string())
    }
}

impl From<wasmtime::Error> for Unloaded {
    fn from(error: wasmtime::Error) -> Self {
        let of_system = error.chain().any(|cause| cause.is::<io::Error>() || cause.is::<rustix::io::Errno>());
        if of_system || error.is::<wasmtime::OutOfMemory>() {
            Self::System(format!("{error:#}"))
        } else {
            Self::Unfit(error)
        }
    }
}

impl Draft {
    fn new(folder: Place, may_stay: bool) -> io::Result<Self> {
        let mut new = OpenOptions::new();
        let file = new.read(true).write(true).create_new(true).mode(0o600).open(folder.path().join(MADE))?;
        let draft = Self { folder, file, may_stay };
        trust::make(&draft.workshop()).map_err(io::Error::other)?;
        Ok(draft)
    }

    /// Where the compiler's result goes.
    pub(super) fn writer(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Where it works: an empty folder.
    pub(super) fn workshop(&self) -> PathBuf {
        self.folder.path().join("workshop")
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        shelf::clear(&self.workshop());
    }
}

impl Codes {
    /// Opens the folder. One that was named must be safe; the usual one is left alone where it isn't, with a warning.
    pub(super) fn open(settings: &Cache, key: &str, shelf: Shelf) -> Result<Self, HostError> {
        let folder = match &settings.folder {
            _ if settings.bytes_max == 0 => None,
            CacheFolder::None => None,
            CacheFolder::Named(folder) => {
                let opened = open(folder);
                opened.map_err(|why| HostError::Cache { folder: folder.clone(), why: why.to_string() })?;
                Some(folder.clone())
            }
            CacheFolder::Usual(folder) => match open(folder) {
                Ok(()) => Some(folder.clone()),
                Err(why) => {
                    distrusted(folder, &why);
                    None
                }
            },
        };
        Ok(Self { folder, key: key.to_owned(), bytes_max: settings.bytes_max, shelf })
    }

    /// The kept code of a module, if there is any that can be used.
    pub(super) fn find(
        &self,
        engine: &Engine,
        digest: &Arc<str>,
        module: &[u8],
    ) -> Option<(Component, Facts)> {
        let folder = self.trusted()?;
        let path = folder.join(self.file_name(digest));
        match self.read(engine, &path, digest, module) {
            Ok(found) => found,
            Err(why) => {
                tracing::warn!(file = %path.display(), %why, "native code is not used, the module is compiled again");
                // It would only be found again. Where it can't be removed, it can't be replaced either, which is told.
                let _ = std::fs::remove_file(&path);
                None
            }
        }
    }

    /// Loads a file of native code; nothing if there is none.
    fn read(
        &self,
        engine: &Engine,
        path: &Path,
        digest: &Arc<str>,
        module: &[u8],
    ) -> Result<Option<(Component, Facts)>, String> {
        match trust::file(path) {
            Ok(()) => {}
            Err(Distrust::Io(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(why) => return Err(why.to_string()),
        }
        let text = |error: io::Error| error.to_string();
        let mut file = File::open(path).map_err(text)?;
        let label = entry::open(&mut file).map_err(text)?.ok_or("it is torn or has been changed")?;
        if label.digest != *digest || label.key != self.key {
            return Err("it holds the code of another module, or for another engine".to_owned());
        }
        let component = self.load(engine, &mut file, &label.made, module);
        let component = component.map_err(|error| format!("{error:#}"))?;
        // Used now: this one goes last. A file system that keeps no times makes a poorer choice, nothing else.
        let _ = file.set_modified(now());
        Ok(Some((component, label.facts)))
    }

    /// The component in a file that is whole.
    fn load(
        &self,
        engine: &Engine,
        file: &mut File,
        made: &Made,
        module: &[u8],
    ) -> wasmtime::Result<Component> {
        let mut component = Vec::new();
        let component = match made.component_bytes {
            None => module,
            Some(length) => {
                file.seek(io::SeekFrom::Start(made.code_bytes))?;
                file.take(length).read_to_end(&mut component)?;
                &component
            }
        };
        file.rewind()?;
        self.shelf.take(engine, &made.entry, &mut file.take(made.code_bytes), component)
    }

    /// A new place for native code.
    pub(super) fn draft(&self) -> io::Result<Draft> {
        if let Some(folder) = self.trusted() {
            match trust::new_folder(DRAFT, folder).and_then(|folder| Draft::new(Place::Kept(folder), true)) {
                Ok(draft) => return Ok(draft),
                Err(error) => distrusted(folder, &error.into()),
            }
        }
        Draft::new(Place::Passing(Passing::new()?), false)
    }

    /// Loads what the compiler has written to `draft`, and keeps it if there is a folder for that.
    ///
    /// The sandbox looks at a component only now: what asks for more instances, memories or tables than it has room for is
    /// [`Unloaded::Unfit`].
    pub(super) fn finish(
        &self,
        engine: &Engine,
        digest: &Arc<str>,
        module: &[u8],
        mut draft: Draft,
        (facts, made): (&Facts, Made),
    ) -> Result<Component, Unloaded> {
        let label = Label { digest: Arc::clone(digest), key: self.key.clone(), facts: facts.clone(), made };
        entry::seal(&mut draft.file, &label)?;
        let component = self.load(engine, &mut draft.file, &label.made, module).map_err(Unloaded::from)?;
        if let (Some(folder), true) = (&self.folder, draft.may_stay) {
            let path = folder.join(self.file_name(digest));
            match std::fs::rename(draft.folder.path().join(MADE), &path) {
                Ok(()) => self.bound(folder, &path),
                Err(why) => tracing::warn!(file = %path.display(), %why, "native code can't be kept"),
            }
        }
        Ok(component)
    }

    /// The folder, as long as it can be trusted: it may have changed since the start.
    fn trusted(&self) -> Option<&Path> {
        let folder = self.folder.as_deref()?;
        match trust::folder(folder) {
            Ok(()) => Some(folder),
            Err(why) => {
                distrusted(folder, &why);
                None
            }
        }
    }

    fn file_name(&self, digest: &str) -> String {
        format!("{}-{}{ENDING}", digest.trim_start_matches("sha256:"), self.key)
    }

    /// Removes what was used longest ago until the folder keeps its bound; never `newest`.
    fn bound(&self, folder: &Path, newest: &Path) {
        if let Err(why) = bound(folder, newest, self.bytes_max) {
            tracing::warn!(folder = %folder.display(), %why, "old native code can't be removed");
        }
    }
}

fn open(folder: &Path) -> Result<(), Distrust> {
    trust::make(folder)?;
    trust::folder(folder)
}

fn distrusted(folder: &Path, why: &Distrust) {
    tracing::warn!(
        folder = %folder.display(),
        %why,
        "native code is not kept, each start compiles all modules; name another folder in [cache] of hookmill.toml"
    );
}

fn bound(folder: &Path, newest: &Path, bytes_max: u64) -> io::Result<()> {
    let now = now();
    let mut kept = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // Another engine may remove it meanwhile.
        let Ok(about) = entry.metadata() else { continue };
        let (name, modified) = (entry.file_name(), about.modified()?);
        let name = name.to_string_lossy();
        let old = now.duration_since(modified).is_ok_and(|age| age > DRAFT_AGE_MAX);
        if name.starts_with(DRAFT) && old {
            std::fs::remove_dir_all(entry.path())?;
        } else if name.ends_with(ENDING) && about.is_file() {
            kept.push((entry.path() == newest, modified, about.len(), entry.path()));
        }
    }
    kept.sort();
    let mut bytes: u64 = kept.iter().map(|(_, _, length, _)| length).sum();
    for (is_newest, _, length, path) in kept {
        if bytes <= bytes_max || is_newest {
            break;
        }
        remove(&path)?;
        bytes -= length;
    }
    Ok(())
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(Timestamp::now().unix_nanos())
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
