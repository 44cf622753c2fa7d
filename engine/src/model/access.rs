//! Who may do what over the admin API: scopes, names of modules, tokens.

use std::fmt;

use super::{Name, SecretRef};

/// What a token allows. A closed set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Scope {
    /// Looking at modules and downloading them.
    ModulesRead,
    /// Uploading, yanking and deleting modules.
    ModulesWrite,
    /// Looking at dead letters, with what is in them, and at lanes.
    DlqRead,
    /// Redriving and discarding dead letters.
    DlqWrite,
    /// Everything.
    Admin,
}

impl Scope {
    /// Every scope, as it is written.
    pub const ALL: [(&'static str, Self); 5] = [
        ("modules:read", Self::ModulesRead),
        ("modules:write", Self::ModulesWrite),
        ("dlq:read", Self::DlqRead),
        ("dlq:write", Self::DlqWrite),
        ("admin", Self::Admin),
    ];

    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ModulesRead => "modules:read",
            Self::ModulesWrite => "modules:write",
            Self::DlqRead => "dlq:read",
            Self::DlqWrite => "dlq:write",
            Self::Admin => "admin",
        }
    }

    /// Whether who has this one may do what `wanted` is for.
    pub fn covers(self, wanted: Self) -> bool {
        self == wanted || self == Self::Admin
    }

    /// Whether it is about modules.
    pub fn is_about_modules(self) -> bool {
        matches!(self, Self::ModulesRead | Self::ModulesWrite)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Names of modules: one exact name (`redact`), or all that begin alike (`acme-*`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NamePattern {
    /// That one.
    Exact(Name),
    /// Every name that begins so.
    Prefix(String),
}

/// A text that is no [`NamePattern`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is no name of a module and no beginning of names that ends in *")]
pub struct NamePatternError(pub String);

impl NamePattern {
    /// Reads `redact` or `acme-*`.
    pub fn new(text: &str) -> Result<Self, NamePatternError> {
        let wrong = || NamePatternError(text.to_owned());
        let Some(prefix) = text.strip_suffix('*') else {
            return Name::new(text).map(Self::Exact).map_err(|_| wrong());
        };
        // What a name can begin with is a name itself, as soon as a letter follows.
        if prefix.is_empty() || Name::new(&format!("{prefix}0")).is_ok() {
            Ok(Self::Prefix(prefix.to_owned()))
        } else {
            Err(wrong())
        }
    }

    /// Whether it means this name.
    pub fn takes(&self, name: &Name) -> bool {
        match self {
            Self::Exact(exact) => exact == name,
            Self::Prefix(prefix) => name.as_str().starts_with(prefix.as_str()),
        }
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => fmt::Display::fmt(name, f),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

/// A bearer token of the admin API.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Token {
    /// What logs call it.
    pub name: Name,
    /// Where its value stands.
    pub secret: SecretRef,
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// Which modules it is for; none: all.
    pub modules: Option<Vec<NamePattern>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_read_as_they_are_written_and_admin_covers_all() {
        for (text, scope) in Scope::ALL {
            assert_eq!(scope.as_str(), text);
            assert!(Scope::Admin.covers(scope) && scope.covers(scope));
            assert_eq!(scope.covers(Scope::Admin), scope == Scope::Admin);
        }
        assert!(!Scope::ModulesWrite.covers(Scope::ModulesRead));
    }

    #[test]
    fn a_pattern_means_one_name_or_all_that_begin_alike() {
        let takes = |pattern, name| NamePattern::new(pattern).unwrap().takes(&Name::new(name).unwrap());
        for (pattern, name, taken) in [
            ("redact", "redact", true),
            ("redact", "redact-2", false),
            ("acme-*", "acme-redact", true),
            ("acme-*", "acme", false),
            ("acme-*", "acme2-redact", false),
            ("acme*", "acme2", true),
            ("*", "anything", true),
        ] {
            assert_eq!(takes(pattern, name), taken, "{pattern} {name}");
        }
        for bad in ["", "-*", "*-a", "a*b", "A*", "a.*", "**", "acme-", &format!("{}*", "x".repeat(48))] {
            assert_eq!(NamePattern::new(bad), Err(NamePatternError(bad.to_owned())), "{bad}");
        }
    }
}
