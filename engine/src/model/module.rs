//! Modules: how a pipeline refers to one, versions, digests.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use super::Name;

/// Longest version, in bytes. Versions become parts of keys.
pub const VERSION_BYTES_MAX: usize = 64;

/// What a digest starts with.
const SHA256: &str = "sha256:";

/// SHA-256 over a module's bytes as they were given: `sha256:` and 64 lower-case hex digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(Arc<str>);

/// Why a text is no [`Digest`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no digest: sha256: and 64 of 0-9 and a-f")]
pub struct DigestError(pub String);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let hex = data_encoding::HEXLOWER.encode(&Sha256::digest(bytes));
        Self(format!("{SHA256}{hex}").into())
    }

    /// Reads `sha256:…`.
    pub fn parse(text: &str) -> Result<Self, DigestError> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let hex = text.strip_prefix(SHA256);
        if hex.is_some_and(|hex| hex.len() == 64 && hex.bytes().all(digit)) {
            Ok(Self(text.into()))
        } else {
            Err(DigestError(text.to_owned()))
        }
    }

    /// `sha256:…`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The 64 hex digits.
    pub fn hex(&self) -> &str {
        &self.0[SHA256.len()..]
    }
}

/// The version of a module: semantic versioning 2.0.0, without build metadata.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(semver::Version);

/// Why a text is no [`Version`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// Not three numbers, with a pre-release or without.
    #[error("{text:?} is no version such as 1.4.2 or 1.4.2-rc.1: {problem}")]
    Invalid {
        /// What was given.
        text: String,
        /// What is wrong with it.
        problem: String,
    },
    /// `+…`: two versions that differ in it alone would rank the same.
    #[error(
        "version {0:?} has build metadata (the part from + on), which doesn't tell versions apart; leave it out"
    )]
    Build(String),
    /// More than [`VERSION_BYTES_MAX`].
    #[error("version {0:?} is longer than {VERSION_BYTES_MAX} bytes")]
    Long(String),
}

impl Version {
    /// Reads `1.4.2` or `1.4.2-rc.1`.
    pub fn parse(text: &str) -> Result<Self, VersionError> {
        let version = semver::Version::parse(text)
            .map_err(|error| VersionError::Invalid { text: text.to_owned(), problem: error.to_string() })?;
        if !version.build.is_empty() {
            return Err(VersionError::Build(text.to_owned()));
        }
        if text.len() > VERSION_BYTES_MAX {
            return Err(VersionError::Long(text.to_owned()));
        }
        Ok(Self(version))
    }

    /// Whether it is one before a release, such as `1.4.2-rc.1`.
    pub fn is_pre_release(&self) -> bool {
        !self.0.pre.is_empty()
    }

    /// The first number.
    pub fn major(&self) -> u64 {
        self.0.major
    }

    /// The second number.
    pub fn minor(&self) -> u64 {
        self.0.minor
    }
}

/// Which versions a reference takes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum VersionRange {
    /// `1`: the newest 1.x.y.
    Major(u64),
    /// `1.4`: the newest 1.4.x.
    Minor(u64, u64),
    /// `1.4.2`: that one, for ever.
    Exact(Version),
}

impl VersionRange {
    /// Reads `1`, `1.4`, `1.4.2` or `1.4.2-rc.1`.
    pub fn parse(text: &str) -> Result<Self, VersionError> {
        let number = |text: &str| {
            let plain = text == "0" || !text.starts_with('0');
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            (plain && digits).then(|| text.parse().ok()).flatten()
        };
        let parts: Vec<&str> = text.splitn(3, '.').collect();
        let range = match parts[..] {
            [major] => number(major).map(Self::Major),
            [major, minor] => {
                number(major).zip(number(minor)).map(|(major, minor)| Self::Minor(major, minor))
            }
            _ => return Version::parse(text).map(Self::Exact),
        };
        range.ok_or_else(|| VersionError::Invalid {
            text: text.to_owned(),
            problem: "write one, two or three numbers between dots".to_owned(),
        })
    }

    /// Whether it takes this version. A pre-release is only ever taken by its exact version.
    pub fn takes(&self, version: &Version) -> bool {
        let released = !version.is_pre_release();
        match self {
            Self::Major(major) => released && version.major() == *major,
            Self::Minor(major, minor) => released && version.major() == *major && version.minor() == *minor,
            Self::Exact(exact) => exact == version,
        }
    }

    /// Whether what it means can change.
    pub fn is_moving(&self) -> bool {
        match self {
            Self::Major(_) | Self::Minor(..) => true,
            Self::Exact(_) => false,
        }
    }
}

/// How a pipeline names a module.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Reference {
    /// `./redact.wasm`, `../redact.wasm`: a file.
    File(PathBuf),
    /// `redact@1`, `redact@1.4`, `redact@1.4.2`: from the registry, by version.
    Range {
        /// The module's name.
        name: Name,
        /// Its versions.
        range: VersionRange,
    },
    /// `redact@sha256:…`: from the registry, by its bytes.
    Digest {
        /// The module's name.
        name: Name,
        /// Its digest.
        digest: Digest,
    },
}

/// Why a text is no [`Reference`]. Each says how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// A path that could be taken for a name.
    #[error("a path starts with ./ or ../, so write ./{0}")]
    BarePath(String),
    /// A path from the root.
    #[error("a path starts with ./ or ../, from the folder of this file")]
    RootPath,
    /// A name alone.
    #[error("it doesn't say which version; write {0}@1 for the newest 1.x.y")]
    NoVersion(String),
    /// What is before the `@` is no name.
    #[error(transparent)]
    Name(#[from] super::name::NameError),
    /// What is behind the `@` is no digest.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// What is behind the `@` is no version.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// A word or an operator where a version belongs.
    #[error(
        "{0:?} is no version; write 1 for the newest 1.x.y, 1.4 for the newest 1.4.x, or a whole version such as 1.4.2"
    )]
    Operator(String),
}

impl Reference {
    /// Reads one of the forms above.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        if text.starts_with("./") || text.starts_with("../") {
            return Ok(Self::File(PathBuf::from(text)));
        }
        if text.starts_with('/') {
            return Err(ReferenceError::RootPath);
        }
        let Some((name, version)) = text.split_once('@') else {
            // No name has a dot.
            let path = text.contains(['/', '\\', '.']);
            let text = text.to_owned();
            return Err(if path { ReferenceError::BarePath(text) } else { no_version(text) });
        };
        let name = Name::new(name)?;
        if version.starts_with(SHA256) {
            return Ok(Self::Digest { name, digest: Digest::parse(version)? });
        }
        if !version.starts_with(|first: char| first.is_ascii_digit()) {
            return Err(ReferenceError::Operator(version.to_owned()));
        }
        Ok(Self::Range { name, range: VersionRange::parse(version)? })
    }

    /// Whether what it means can change while the engine runs.
    pub fn is_moving(&self) -> bool {
        matches!(self, Self::Range { range, .. } if range.is_moving())
    }

    /// The name in the registry; none for a file.
    pub fn name(&self) -> Option<&Name> {
        match self {
            Self::File(_) => None,
            Self::Range { name, .. } | Self::Digest { name, .. } => Some(name),
        }
    }
}

/// A name alone, if it is one.
fn no_version(text: String) -> ReferenceError {
    match Name::new(&text) {
        Ok(_) => ReferenceError::NoVersion(text),
        Err(error) => ReferenceError::Name(error),
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Major(major) => write!(f, "{major}"),
            Self::Minor(major, minor) => write!(f, "{major}.{minor}"),
            Self::Exact(version) => write!(f, "{version}"),
        }
    }
}

impl fmt::Display for Reference {
    /// As it is written in a pipeline file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Range { name, range } => write!(f, "{name}@{range}"),
            Self::Digest { name, digest } => write!(f, "{name}@{digest}"),
        }
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    #[test]
    fn every_form_of_a_reference_is_read_and_written_alike() {
        let digest = format!("redact@sha256:{}", "0a".repeat(32));
        for (text, moving) in [
            ("./x.wasm", false),
            ("../modules/x.wasm", false),
            ("redact@1", true),
            ("redact@0", true),
            ("redact@1.4", true),
            ("redact@1.4.2", false),
            ("redact@1.4.2-rc.1", false),
            (digest.as_str(), false),
        ] {
            let reference = Reference::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(reference.to_string(), text);
            assert_eq!(reference.is_moving(), moving, "{text}");
        }
    }

    #[test]
    fn what_is_no_reference_says_how_to_mend_it() {
        for (text, said) in [
            ("redact.wasm", "a path starts with ./ or ../, so write ./redact.wasm"),
            ("modules/redact", "a path starts with ./ or ../, so write ./modules/redact"),
            ("/modules/redact.wasm", "a path starts with ./ or ../, from the folder of this file"),
            ("redact", "it doesn't say which version; write redact@1 for the newest 1.x.y"),
            ("", "\"\" is not a name: 1 to 48 of a-z, 0-9 and -, neither starting nor ending with -"),
            (
                "Redact@1",
                "\"Redact\" is not a name: 1 to 48 of a-z, 0-9 and -, neither starting nor ending with -",
            ),
            (
                "redact@latest",
                "\"latest\" is no version; write 1 for the newest 1.x.y, 1.4 for the newest 1.4.x, or a whole version such as 1.4.2",
            ),
            (
                "redact@^1",
                "\"^1\" is no version; write 1 for the newest 1.x.y, 1.4 for the newest 1.4.x, or a whole version such as 1.4.2",
            ),
            (
                "redact@",
                "\"\" is no version; write 1 for the newest 1.x.y, 1.4 for the newest 1.4.x, or a whole version such as 1.4.2",
            ),
            (
                "redact@1.x",
                "\"1.x\" is no version such as 1.4.2 or 1.4.2-rc.1: write one, two or three numbers between dots",
            ),
            (
                "redact@01",
                "\"01\" is no version such as 1.4.2 or 1.4.2-rc.1: write one, two or three numbers between dots",
            ),
            (
                "redact@1.4.2+7",
                "version \"1.4.2+7\" has build metadata (the part from + on), which doesn't tell versions apart; leave it out",
            ),
            ("redact@sha256:12", "\"sha256:12\" is no digest: sha256: and 64 of 0-9 and a-f"),
        ] {
            assert_eq!(Reference::parse(text).unwrap_err().to_string(), said, "{text}");
        }
        let long = format!("1.4.2-{}", "a".repeat(60));
        assert_eq!(Version::parse(&long), Err(VersionError::Long(long.clone())));
    }

    #[test]
    fn ranges_take_releases_of_their_line_alone() {
        let range = |text| VersionRange::parse(text).unwrap();
        for (text, taken, left) in [
            ("1", &["1.0.0", "1.9.10"][..], &["0.9.9", "2.0.0", "1.5.0-rc.1"][..]),
            ("1.4", &["1.4.0", "1.4.12"], &["1.3.9", "1.5.0", "1.4.0-rc.1"]),
            ("1.4.2", &["1.4.2"], &["1.4.3", "1.4.2-rc.1"]),
            ("1.4.2-rc.1", &["1.4.2-rc.1"], &["1.4.2", "1.4.2-rc.2"]),
        ] {
            assert!(taken.iter().all(|one| range(text).takes(&version(one))), "{text}");
            assert!(!left.iter().any(|one| range(text).takes(&version(one))), "{text}");
        }
        assert!(version("1.10.0") > version("1.9.0") && version("1.0.0") > version("1.0.0-rc.1"));
    }

    #[test]
    fn a_digest_is_of_the_bytes_in_hex() {
        let digest = Digest::of(b"");
        assert_eq!(
            digest.as_str(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(Digest::parse(digest.as_str()), Ok(digest.clone()));
        assert!(Digest::parse(&digest.as_str().to_uppercase()).is_err());
        assert!(Digest::parse(digest.hex()).is_err());
        let json = serde_json::to_string(&digest).unwrap();
        assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
        assert!(serde_json::from_str::<Version>("\"1.4\"").is_err());
    }
}
