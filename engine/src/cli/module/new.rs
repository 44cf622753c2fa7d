//! `hookmill module new`: a project that builds with one command and has a test.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::super::{Failure, output};
use super::templates::{self, File};
use crate::model::Name;

/// `module new`.
#[derive(Args, Debug)]
pub(crate) struct NewArgs {
    /// What it is written in
    #[arg(long, value_enum)]
    lang: Language,
    /// Name of the module, and of the folder that is made
    #[arg(value_name = "NAME")]
    name: String,
    /// Another folder
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

/// Languages that there is a project for.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Language {
    /// Rust, with the guest crate beside it
    Rust,
    /// JavaScript through componentize-js
    Js,
    /// Python through componentize-py
    Python,
    /// Go through wit-bindgen
    Go,
    /// A core module by hand, in WebAssembly text
    Wat,
}

impl Language {
    fn files(self) -> Vec<&'static File> {
        let own: &[&[File]] = match self {
            Self::Rust => &[templates::RUST, templates::RUST_SDK],
            Self::Js => &[templates::JS],
            Self::Python => &[templates::PYTHON],
            Self::Go => &[templates::GO],
            Self::Wat => &[templates::WAT],
        };
        let own: Vec<&File> = own.iter().copied().flatten().collect();
        let is_own = |file: &File| own.iter().any(|own| own.path == file.path);
        let shared = templates::SHARED.iter().filter(|file| !is_own(file));
        own.iter().copied().chain(shared).collect()
    }

    /// Limits for the metadata: what an instance of the language needs. See `docs/languages/`.
    const fn limits(self) -> &'static str {
        match self {
            Self::Rust | Self::Wat => r#"{ "memory": "16MiB" }"#,
            Self::Go => r#"{ "memory": "64MiB" }"#,
            Self::Js | Self::Python => r#"{ "memory": "128MiB" }"#,
        }
    }
}

pub(super) fn new(args: &NewArgs) -> Result<(), Failure> {
    let name = checked(&args.name)?;
    let folder = args.folder.clone().unwrap_or_else(|| PathBuf::from(name.as_str()));
    make(&folder).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => Failure::Usage(format!(
            "{} is there already, with something in it; give another name, or --folder",
            folder.display()
        )),
        _ => Failure::Failed(format!("{} can't be made: {error}", folder.display())),
    })?;
    for file in args.lang.files() {
        let path = folder.join(file.path);
        write(&path, &filled(file.text, &name, args.lang))
            .map_err(|error| Failure::Failed(format!("{} can't be written: {error}", path.display())))?;
    }
    output::line(format_args!(
        "{}: a transform; `make` there builds it, `make test` tries it, README.md says more",
        folder.display()
    ));
    Ok(())
}

/// A name of the registry that is also a name for a crate and a package.
fn checked(name: &str) -> Result<Name, Failure> {
    let fits = Name::new(name)
        .ok()
        .filter(|name| name.as_str().starts_with(|first: char| first.is_ascii_lowercase()));
    fits.ok_or_else(|| {
        Failure::Usage(format!(
            "{name:?} is no name for a module; use a-z, 0-9 and -, starting with a letter, not ending with -"
        ))
    })
}

fn make(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    match std::fs::read_dir(folder)?.next() {
        None => Ok(()),
        Some(_) => Err(ErrorKind::AlreadyExists.into()),
    }
}

fn filled(text: &str, name: &Name, language: Language) -> String {
    let name = name.as_str();
    text.replace("{{name}}", name)
        .replace("{{snake}}", &name.replace('-', "_"))
        .replace("{{limits}}", language.limits())
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_to_fill_in_and_no_path_leads_out() {
        let name = Name::new("my-stamp").unwrap();
        for language in Language::value_variants() {
            let files = language.files();
            assert!(files.iter().any(|file| file.path == "Makefile"), "{language:?}");
            for file in files {
                let text = filled(file.text, &name, *language);
                assert!(!text.contains("{{") || file.path.starts_with("sdk/"), "{language:?} {}", file.path);
                assert!(!file.path.contains("..") && !file.path.starts_with('/'), "{}", file.path);
            }
        }
    }

    #[test]
    fn names_fit_crates_and_packages() {
        for bad in ["", "1a", "A", "a_b", "a-", "../a", "a b"] {
            assert!(checked(bad).is_err(), "{bad:?}");
        }
        assert_eq!(checked("a-1").unwrap().as_str(), "a-1");
    }

    #[test]
    fn a_folder_with_something_in_it_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let args = |folder: &Path| NewArgs {
            lang: Language::Wat,
            name: "a".to_owned(),
            folder: Some(folder.to_owned()),
        };
        new(&args(folder.path())).unwrap();
        assert!(folder.path().join("wit/transform.wit").is_file());
        assert!(matches!(new(&args(folder.path())), Err(Failure::Usage(_))));
    }
}
