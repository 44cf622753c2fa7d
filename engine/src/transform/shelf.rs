//! Native code becomes a component. wasmtime's direct way is `unsafe`: it can't know whose code it is given. Its cache is
//! a safe door to the same, for whoever answers for a folder: a component is not compiled if its native code lies there
//! under the right name. So code that is known to be whole is laid on a shelf, taken from it, and cleared away.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Component as Part, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use wasmtime::component::Component;
use wasmtime::{Cache, CacheConfig, Engine};

use super::trust::{self, Passing};

/// How often a folder is removed that somebody may just be writing into.
const CLEAR_ATTEMPTS: usize = 3;

/// Native code as wasmtime's cache keeps it.
#[derive(Debug)]
pub(super) struct Native {
    /// Its name: what it was compiled from and for, hashed by wasmtime. A path below the cache's folder.
    pub(super) entry: PathBuf,
    /// Compressed.
    pub(super) code: Vec<u8>,
}

/// The folder of the cache of one wasmtime engine. Holds something only while it is being taken.
#[derive(Debug)]
pub(super) struct Shelf {
    cache: Cache,
    /// Whoever holds it may lay something on the shelf.
    turn: Mutex<()>,
    /// Removed with the shelf. None: somebody else does that.
    folder: Option<Passing>,
}

impl Shelf {
    /// A shelf in a new folder for this user alone.
    pub(super) fn new() -> io::Result<Self> {
        trust::sweep();
        let folder = Passing::new()?;
        let inner = folder.path().join("shelf");
        trust::make(&inner).map_err(io::Error::other)?;
        let cache = cache(&inner).map_err(io::Error::other)?;
        Ok(Self { cache, turn: Mutex::default(), folder: Some(folder) })
    }

    /// A shelf in a folder that somebody else has made, and removes.
    pub(super) fn at(folder: &Path) -> wasmtime::Result<Self> {
        Ok(Self { cache: cache(folder)?, turn: Mutex::default(), folder: None })
    }

    /// For the settings of the engine that uses it.
    pub(super) fn cache(&self) -> Cache {
        self.cache.clone()
    }

    /// What an engine has laid there by compiling one component.
    pub(super) fn only(&self) -> io::Result<Native> {
        let mut names = Vec::new();
        files(self.cache.directory(), &mut names)?;
        // Beside the code the cache keeps notes, whose names have an ending.
        names.retain(|name| name.extension().is_none());
        let [path] = names.as_slice() else {
            let found = names.len();
            return Err(io::Error::other(format!("{found} files of native code where there should be one")));
        };
        let entry = path.strip_prefix(self.cache.directory()).map_err(io::Error::other)?.to_owned();
        Ok(Native { entry, code: std::fs::read(path)? })
    }

    /// The component that was compiled from `component`, out of its native code.
    pub(super) fn take(
        &self,
        engine: &Engine,
        entry: &Path,
        code: &mut impl Read,
        component: &[u8],
    ) -> wasmtime::Result<Component> {
        if !entry.components().all(|part| matches!(part, Part::Normal(_))) {
            return Err(io::Error::other("the name of its native code is none").into());
        }
        let path = self.cache.directory().join(entry);
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let hits = self.cache.cache_hits();
        let taken =
            lay(&path, code).map_err(Into::into).and_then(|()| Component::from_binary(engine, component));
        // It would only lie about until the engine ends.
        let _ = std::fs::remove_file(&path);
        let taken = taken?;
        if self.cache.cache_hits() == hits {
            return Err(io::Error::other("its native code is none for this engine").into());
        }
        Ok(taken)
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder {
            clear(folder.path());
        }
    }
}

/// Empties a folder of a cache, which may still be writing its notes: what is removed again is gone for good.
pub(super) fn clear(folder: &Path) {
    for _ in 0..CLEAR_ATTEMPTS {
        if std::fs::remove_dir_all(folder).is_ok() {
            return;
        }
    }
}

fn cache(folder: &Path) -> wasmtime::Result<Cache> {
    let mut config = CacheConfig::new();
    config.with_directory(folder);
    Cache::new(config)
}

fn lay(path: &Path, code: &mut impl Read) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        trust::make(folder).map_err(io::Error::other)?;
    }
    io::copy(code, &mut File::create(path)?).map(drop)
}

/// All files below a folder.
fn files(folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files(&entry.path(), found)?;
        } else {
            found.push(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A component with nothing in it.
    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

    fn engine(shelf: &Shelf) -> Engine {
        let mut config = wasmtime::Config::new();
        config.cache(Some(shelf.cache()));
        Engine::new(&config).unwrap()
    }

    fn compiled() -> Native {
        let folder = tempfile::tempdir().unwrap();
        let workshop = Shelf::at(folder.path()).unwrap();
        Component::from_binary(&engine(&workshop), EMPTY).unwrap();
        workshop.only().unwrap()
    }

    fn taken(entry: &str, mut code: &[u8]) -> Result<(), String> {
        let shelf = Shelf::new().unwrap();
        let taken = shelf.take(&engine(&shelf), Path::new(entry), &mut code, EMPTY);
        taken.map(drop).map_err(|error| error.to_string())
    }

    #[test]
    fn code_is_taken_under_its_own_name_and_leaves_nothing() {
        let Native { entry, code } = compiled();
        let shelf = Shelf::new().unwrap();
        let engine = engine(&shelf);
        for _ in 0..2 {
            shelf.take(&engine, &entry, &mut code.as_slice(), EMPTY).unwrap();
            assert!(shelf.only().is_err());
        }
        assert_eq!((shelf.cache.cache_hits(), shelf.cache.cache_misses()), (2, 0));
    }

    #[test]
    fn what_would_have_been_compiled_instead_is_refused() {
        let Native { entry, code } = compiled();
        let entry = entry.to_str().unwrap();
        assert_eq!(taken(entry, &code), Ok(()));
        let refused = Err("its native code is none for this engine".to_owned());
        for torn in [&code[..code.len() / 2], b"", b"\x7fELF"] {
            assert_eq!(taken(entry, torn), refused, "{torn:?}");
        }
        assert_eq!(taken("modules/other", &code), refused);
    }

    #[test]
    fn a_name_leads_nowhere_else() {
        let Native { code, .. } = compiled();
        for name in ["../other", "/tmp/other", "modules/../../other", "."] {
            assert_eq!(taken(name, &code), Err("the name of its native code is none".to_owned()), "{name}");
        }
    }
}
