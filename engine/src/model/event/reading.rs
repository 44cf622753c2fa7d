//! The two ways in which a source is read, and the closed list of breaches that the tolerant one mends.

use serde::{Deserialize, Serialize};

/// How messages are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reading {
    /// Valid events as they are, and those with breaches of [`Mend`] mended.
    #[default]
    Tolerant,
    /// Valid events alone.
    Strict,
}

impl Reading {
    /// As settings spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tolerant => "tolerant",
            Self::Strict => "strict",
        }
    }
}

/// A breach that real publishers commit, and what becomes of it. `id`, `source`, `type`, `specversion` and the data are never
/// made or guessed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Mend {
    /// A name of an attribute with capitals, folded to lower case (`CloudEvents`, "Naming Conventions").
    NameCase,
    /// Of two names that fold to one, the null that gives way to the value.
    NullBesideValue,
    /// An empty `subject`, `time`, `dataschema` or `datacontenttype`, left out ("MUST be a non-empty string").
    EmptyAttribute,
    /// A `dataschema` without a scheme, left out (RFC 3986, 4.3).
    DataschemaRelative,
    /// A `dataschema` with a fragment, kept as it is (RFC 3986, 4.3).
    DataschemaFragment,
    /// A `ce-` value that can't be decoded, or is none of its attribute once decoded, taken as it stands (NATS binding,
    /// 3.1.3.2).
    HeaderUndecoded,
    /// A `Content-Type` in quotes that marks an event (RFC 9110, 8.3).
    ContentTypeQuoted,
    /// A mark under the name `contentType` or `content_type`.
    ContentTypeName,
    /// A mark that is not the first of several.
    ContentTypeSecond,
}

/// Every mend with its name: in metrics, `trace`, logs and the docs.
const NAMES: [(Mend, &str); 9] = [
    (Mend::NameCase, "name_case"),
    (Mend::NullBesideValue, "null_beside_value"),
    (Mend::EmptyAttribute, "empty_attribute"),
    (Mend::DataschemaRelative, "dataschema_relative"),
    (Mend::DataschemaFragment, "dataschema_fragment"),
    (Mend::HeaderUndecoded, "header_undecoded"),
    (Mend::ContentTypeQuoted, "content_type_quoted"),
    (Mend::ContentTypeName, "content_type_name"),
    (Mend::ContentTypeSecond, "content_type_second"),
];

impl Mend {
    /// How many there are.
    pub const COUNT: usize = NAMES.len();

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        NAMES.iter().map(|(mend, _)| *mend)
    }

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        NAMES[self as usize].1
    }

    /// Whether the event itself is other than what came.
    const fn changes_attributes(self) -> bool {
        match self {
            Self::NameCase
            | Self::NullBesideValue
            | Self::EmptyAttribute
            | Self::DataschemaRelative
            | Self::HeaderUndecoded => true,
            Self::DataschemaFragment
            | Self::ContentTypeQuoted
            | Self::ContentTypeName
            | Self::ContentTypeSecond => false,
        }
    }
}

/// What was mended of one event.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Mends(u16);

impl Mends {
    /// Nothing: the event was valid.
    pub const NONE: Self = Self(0);

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Adds one.
    pub(super) const fn add(&mut self, mend: Mend) {
        self.0 |= 1 << mend as u16;
    }

    /// Each of them once.
    pub fn iter(self) -> impl Iterator<Item = Mend> {
        Mend::all().filter(move |mend| self.0 & (1 << *mend as u16) != 0)
    }

    /// Their names.
    pub fn names(self) -> Vec<&'static str> {
        self.iter().map(Mend::as_str).collect()
    }

    /// Those of names with commas between them; unknown ones are left out.
    pub fn parse(text: &str) -> Self {
        let mut mends = Self::NONE;
        for name in text.split(',') {
            if let Some((mend, _)) = NAMES.iter().find(|(_, known)| *known == name) {
                mends.add(*mend);
            }
        }
        mends
    }

    /// Whether the event itself is other than what came.
    pub(super) fn change_attributes(self) -> bool {
        self.iter().any(Mend::changes_attributes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mend_has_its_own_name_and_bit() {
        let mut all = Mends::NONE;
        for (place, mend) in Mend::all().enumerate() {
            assert_eq!(mend as usize, place, "the table is in the order of the type");
            all.add(mend);
        }
        assert_eq!(all.names().len(), Mend::COUNT);
        assert_eq!(Mends::parse(&all.names().join(",")), all);
        assert_eq!(Mends::parse(""), Mends::NONE);
        assert_eq!(Mends::parse("unheard_of"), Mends::NONE);
    }

    #[test]
    fn the_docs_list_every_mend() {
        let page = include_str!("../../../../docs/your-publisher.md");
        for mend in Mend::all() {
            assert!(page.contains(&format!("`{}`", mend.as_str())), "{}", mend.as_str());
        }
    }
}
