//! What a setting is: one definition of key, kind, default and meaning, from which it is read and documented.

use std::cell::RefCell;
use std::fmt::Display;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::report::{Code, Lines, Problem};

/// A value as it stands in a file.
pub(super) type Found<'i> = Spanned<DeValue<'i>>;

/// A file that is being read, and what was found wrong with it so far.
pub(super) struct File<'t> {
    pub(super) label: &'t str,
    /// Paths in the file start here.
    pub(super) folder: PathBuf,
    text: &'t str,
    lines: Lines,
    empty: DeTable<'static>,
    problems: RefCell<Vec<Problem>>,
}

impl<'t> File<'t> {
    pub(super) fn new(label: &'t str, path: &Path, text: &'t str) -> Self {
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let (lines, empty) = (Lines::of(text), DeTable::new());
        Self { label, folder, text, lines, empty, problems: RefCell::default() }
    }

    /// Reads the text as TOML; every break of its rules is reported.
    pub(super) fn parse(&self) -> Option<Spanned<DeTable<'t>>> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in &errors {
            let (line, column) = self.lines.place(self.text, &error.span().unwrap_or_default());
            let message = format!("not TOML: {}", error.message().trim());
            let problem = Problem::new(Code::Syntax, self.label, message).at(line, column);
            self.problems
                .borrow_mut()
                .push(problem.hint("strings are in quotes, tables in [ ], and no key stands twice"));
        }
        errors.is_empty().then_some(table)
    }

    pub(super) fn report(&self, code: Code, at: &Range<usize>, key: &str, message: String, hint: String) {
        let (line, column) = self.lines.place(self.text, at);
        let problem = Problem::new(code, self.label, message).at(line, column).key(key).hint(hint);
        self.problems.borrow_mut().push(problem);
    }

    /// Whether nothing was found wrong so far.
    pub(super) fn is_fine(&self) -> bool {
        self.problems.borrow().is_empty()
    }

    pub(super) fn line(&self, at: &Range<usize>) -> usize {
        self.place(at).0
    }

    /// Line and column.
    pub(super) fn place(&self, at: &Range<usize>) -> (usize, usize) {
        self.lines.place(self.text, at)
    }

    /// The problems in the order of the file.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| (problem.line, problem.column));
        problems
    }
}

/// Where a value is being read: its file and its setting.
pub(super) struct Context<'f> {
    pub(super) file: &'f File<'f>,
    pub(super) key: String,
}

impl Context<'_> {
    /// The context of what stands under a name of the user's.
    pub(super) fn below(&self, name: &str) -> Self {
        Self { file: self.file, key: format!("{}.{name}", self.key) }
    }

    /// Reports `<key> <said>`.
    pub(super) fn wrong(&self, code: Code, at: &Range<usize>, said: impl Display, hint: impl Into<String>) {
        self.file.report(code, at, &self.key, format!("{} {said}", self.key), hint.into());
    }

    /// Reports a value of another TOML type than `expected`.
    pub(super) fn wrong_type(&self, found: &Found<'_>, expected: &str, hint: impl Into<String>) {
        let said = format!("expected {expected}, found {}", with_article(found.get_ref().type_str()));
        let message = format!("{}: {said}", self.key);
        self.file.report(Code::WrongType, &found.span(), &self.key, message, hint.into());
    }

    /// The text of a string; anything else is reported.
    pub(super) fn text<'v>(&self, found: &'v Found<'_>, hint: impl Into<String>) -> Option<&'v str> {
        let text = found.get_ref().as_str();
        if text.is_none() {
            self.wrong_type(found, "a string", hint);
        }
        text
    }
}

fn with_article(kind: &str) -> String {
    let article = if kind.starts_with(['a', 'i']) { "an" } else { "a" };
    format!("{article} {kind}")
}

/// How a value is read and checked, and how that is said to a person.
pub(super) trait Kind: Sync {
    /// What it becomes.
    type Value;
    /// Reads it, or reports what is wrong with it.
    fn read(&self, context: &Context<'_>, found: &Found<'_>) -> Option<Self::Value>;
    /// `a duration from 1ms to 1h, such as "15s"`.
    fn describe(&self) -> String;
    /// What a JSON Schema can say of it, for editors. It may take what `read` refuses, never the other way round.
    fn schema(&self) -> Json;
}

/// What counts where a key is left out.
#[derive(Clone, Copy)]
pub(super) enum Absent {
    /// It must be there.
    Missing,
    /// This, as TOML. Read and checked like a value of the file.
    Default(&'static str),
    /// Nothing; the text says what that means.
    Nothing(&'static str),
}

/// One setting.
pub(super) struct Setting<K> {
    key: &'static str,
    kind: K,
    absent: Absent,
    about: &'static str,
}

impl<K> Setting<K> {
    pub(super) const fn new(key: &'static str, kind: K, absent: Absent, about: &'static str) -> Self {
        Self { key, kind, absent, about }
    }
}

/// A table below a table, or a list of them.
pub(super) struct Sub {
    key: &'static str,
    section: &'static Section,
    many: bool,
}

impl Sub {
    pub(super) const fn one(key: &'static str, section: &'static Section) -> Self {
        Self { key, section, many: false }
    }

    pub(super) const fn many(key: &'static str, section: &'static Section) -> Self {
        Self { key, section, many: true }
    }
}

/// Tables below a table, each under a name of the user's.
pub(super) struct Named {
    key: &'static str,
    section: &'static Section,
}

impl Named {
    pub(super) const fn new(key: &'static str, section: &'static Section) -> Self {
        Self { key, section }
    }
}

/// A name that is kept for a later version.
pub(super) struct Later {
    key: &'static str,
    about: &'static str,
}

impl Later {
    pub(super) const fn new(key: &'static str, about: &'static str) -> Self {
        Self { key, about }
    }
}

/// What every key can say about itself.
pub(super) trait About: Sync {
    fn key(&self) -> &'static str;
    fn row(&self) -> Row;
}

/// A key as the reference page and the schemas show it.
pub(super) enum Row {
    Setting { kind: String, schema: Json, absent: Absent, about: &'static str },
    Section { section: &'static Section, place: Place },
    Later(&'static str),
}

/// How a section hangs below a key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// One table.
    One,
    /// A list of tables.
    Many,
    /// Tables under names of the user's.
    Named,
}

impl<K: Kind> About for Setting<K> {
    fn key(&self) -> &'static str {
        self.key
    }

    fn row(&self) -> Row {
        let (kind, schema) = (self.kind.describe(), self.kind.schema());
        Row::Setting { kind, schema, absent: self.absent, about: self.about }
    }
}

impl About for Sub {
    fn key(&self) -> &'static str {
        self.key
    }

    fn row(&self) -> Row {
        let place = if self.many { Place::Many } else { Place::One };
        Row::Section { section: self.section, place }
    }
}

impl About for Named {
    fn key(&self) -> &'static str {
        self.key
    }

    fn row(&self) -> Row {
        Row::Section { section: self.section, place: Place::Named }
    }
}

impl About for Later {
    fn key(&self) -> &'static str {
        self.key
    }

    fn row(&self) -> Row {
        Row::Later(self.about)
    }
}

/// The keys of one table.
pub(super) struct Section {
    /// As it is written: `[subscription.deliver]`. Empty for the top of the file.
    pub(super) header: &'static str,
    /// What stands before its keys in messages: `deliver`.
    pub(super) label: &'static str,
    pub(super) about: &'static str,
    pub(super) keys: &'static [&'static dyn About],
}

impl Section {
    /// This section and those below it, in the order of the page.
    pub(super) fn all(&'static self) -> Vec<&'static Self> {
        let below = self.keys.iter().filter_map(|key| match key.row() {
            Row::Section { section, .. } => Some(section.all()),
            Row::Setting { .. } | Row::Later(_) => None,
        });
        std::iter::once(self).chain(below.flatten()).collect()
    }

    fn path(&self, key: &str) -> String {
        if self.label.is_empty() { key.to_owned() } else { format!("{}.{key}", self.label) }
    }
}

/// A problem was found and is in the file's list.
pub(super) struct Reported;

/// A table of a file, read by the keys of its section.
pub(super) struct Table<'f> {
    pub(super) file: &'f File<'f>,
    section: &'static Section,
    at: Range<usize>,
    map: &'f DeTable<'f>,
}

impl<'f> Table<'f> {
    /// Opens the top of a file; unknown and reserved keys are reported at once, here and below.
    pub(super) fn root(file: &'f File<'f>, root: &'static Section, table: &'f Spanned<DeTable<'f>>) -> Self {
        Self::open(file, root, root, 0..0, table.get_ref())
    }

    fn open(
        file: &'f File<'f>,
        root: &'static Section,
        section: &'static Section,
        at: Range<usize>,
        map: &'f DeTable<'f>,
    ) -> Self {
        let table = Self { file, section, at, map };
        for (key, _) in map {
            match section.keys.iter().find(|known| known.key() == key.get_ref()) {
                None => table.unknown(root, key.get_ref(), &key.span()),
                Some(known) => {
                    if let Row::Later(about) = known.row() {
                        let hint = format!("leave it out for now: {about}");
                        table.context(known.key()).wrong(
                            Code::NotAvailable,
                            &key.span(),
                            "is not available in this version",
                            hint,
                        );
                    }
                }
            }
        }
        table
    }

    fn unknown(&self, root: &'static Section, key: &str, at: &Range<usize>) {
        let known = || self.section.keys.iter().map(|known| known.key());
        let distance = |name: &&str| strsim::damerau_levenshtein(key, name);
        let near = known().min_by_key(distance).filter(|name| distance(name) <= 1 + name.len() / 4);
        let elsewhere = || {
            let sections = root.all().into_iter().filter(|section| !section.header.is_empty());
            sections.into_iter().find(|section| section.keys.iter().any(|known| known.key() == key))
        };
        let hint = if let Some(near) = near {
            format!("did you mean {near}?")
        } else if let Some(section) = elsewhere() {
            format!("{key} belongs to {}", section.header)
        } else {
            format!("the keys here are {}", known().collect::<Vec<_>>().join(", "))
        };
        self.context(key).wrong(Code::UnknownKey, at, "is unknown", hint);
    }

    pub(super) fn context(&self, key: &str) -> Context<'f> {
        Context { file: self.file, key: self.section.path(key) }
    }

    /// Reports something about the table as a whole.
    pub(super) fn wrong(&self, code: Code, message: String, hint: impl Into<String>) {
        self.file.report(code, &self.at, self.section.label, message, hint.into());
    }

    /// Where it stands.
    pub(super) fn at(&self) -> Range<usize> {
        self.at.clone()
    }

    /// The value as it stands there, if it is given.
    pub(super) fn found(&self, about: &dyn About) -> Option<&'f Found<'f>> {
        self.map.get(about.key())
    }

    /// Opens a table that stands under a name of the user's.
    pub(super) fn named(
        &self,
        root: &'static Section,
        named: &Named,
        context: &Context<'_>,
        found: &'f Found<'f>,
    ) -> Option<Self> {
        self.below(root, named.section, context, found)
    }

    /// Where the key's value stands, if it is given.
    pub(super) fn given(&self, about: &dyn About) -> Option<Range<usize>> {
        self.map.get(about.key()).map(Spanned::span)
    }

    /// The value, the default where the key is left out; `None` after a problem was reported.
    pub(super) fn get<K: Kind>(&self, setting: &Setting<K>) -> Option<K::Value> {
        let context = self.context(setting.key);
        if let Some(found) = self.map.get(setting.key) {
            return setting.kind.read(&context, found);
        }
        match setting.absent {
            Absent::Default(text) => {
                let value = DeValue::parse(text).expect("every default is read by a test");
                setting.kind.read(&context, &value)
            }
            Absent::Missing | Absent::Nothing(_) => {
                context.wrong(Code::MissingKey, &self.at, "is missing", setting.kind.describe());
                None
            }
        }
    }

    /// The value if the key is there.
    pub(super) fn optional<K: Kind>(&self, setting: &Setting<K>) -> Result<Option<K::Value>, Reported> {
        let Some(found) = self.map.get(setting.key) else { return Ok(None) };
        setting.kind.read(&self.context(setting.key), found).map(Some).ok_or(Reported)
    }

    /// The table below; an empty one where it is left out, so that all its defaults count.
    pub(super) fn one(&self, root: &'static Section, sub: &Sub) -> Option<Self> {
        match self.map.get(sub.key) {
            Some(found) => self.below(root, sub.section, &self.context(sub.key), found),
            None => Some(Self {
                file: self.file,
                section: sub.section,
                at: self.at.clone(),
                map: &self.file.empty,
            }),
        }
    }

    /// Reports a key that stands without the other.
    pub(super) fn both(&self, one: &dyn About, other: &dyn About) {
        let (lonely, at, missing) = match (self.given(one), self.given(other)) {
            (Some(at), None) => (one.key(), at, other.key()),
            (None, Some(at)) => (other.key(), at, one.key()),
            (Some(_), Some(_)) | (None, None) => return,
        };
        let said = format!("stands without {missing}");
        self.context(lonely).wrong(Code::Conflict, &at, said, "give both or neither");
    }

    /// The tables of a list; `None` for each that is none.
    pub(super) fn many(&self, root: &'static Section, sub: &Sub) -> Vec<Option<Self>> {
        debug_assert!(sub.many);
        let Some(found) = self.map.get(sub.key) else { return Vec::new() };
        let Some(list) = found.get_ref().as_array() else {
            let hint = format!("write {}", sub.section.header);
            self.context(sub.key).wrong_type(found, "a list of tables", hint);
            return vec![None];
        };
        let context = self.context(sub.key);
        list.iter().map(|item| self.below(root, sub.section, &context, item)).collect()
    }

    fn below(
        &self,
        root: &'static Section,
        section: &'static Section,
        context: &Context<'_>,
        found: &'f Found<'f>,
    ) -> Option<Self> {
        let Some(map) = found.get_ref().as_table() else {
            context.wrong_type(found, "a table", format!("write {}", section.header));
            return None;
        };
        Some(Self::open(self.file, root, section, found.span(), map))
    }
}
