//! Problems of the files a user writes: what, where and how to mend it, with a code that never changes its meaning. The
//! codes are one list for files, command line and admin API.

use std::fmt::{self, Write as _};
use std::ops::Range;

use serde::Serialize;

macro_rules! codes {
    ($($name:ident = $number:literal, $title:literal, $help:literal;)*) => {
        /// What kind of problem it is. A number is given once and never used for anything else.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
        pub enum Code {
            $(#[doc = $title] $name,)*
        }

        impl Code {
            /// Every code, in the order of the numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// `E021`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $number,)* }
            }

            /// What it means, in a few words.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }

            /// What to know about it.
            pub const fn help(self) -> &'static str {
                match self { $(Self::$name => $help,)* }
            }
        }
    };
}

codes! {
    Unreadable = "E001", "A file or folder can't be read",
        "The path doesn't exist, may not be read, or holds bytes that are no UTF-8.";
    NoFiles = "E002", "No pipeline file there",
        "A folder means its `*.toml` files, not those in folders below it, and not `*.test.toml`; for `hookmill test` it means its `*.test.toml`.";
    Syntax = "E003", "Not TOML",
        "The file breaks the rules of TOML 1.1 at that place. Other problems of the file are reported once it can be read.";
    UnknownKey = "E010", "An unknown key",
        "No such setting exists here. Nothing is ignored silently, so that a slip of the pen can't switch something off.";
    MissingKey = "E011", "A key is missing",
        "This setting has no default and must be given.";
    WrongType = "E012", "The wrong type of value",
        "The value is of another TOML type than the setting takes, such as a number where a string is expected.";
    NotAvailable = "E013", "Not available in this version",
        "The setting is planned and its name is reserved, but this version can't do it yet.";
    Conflict = "E014", "Settings that exclude or need each other",
        "Two settings were given of which only one makes sense, or one without the other that it needs.";
    Duplicate = "E015", "A name is used twice",
        "Names of pipelines are unique among all files that are loaded together, names of subscriptions within their pipeline.";
    BadName = "E020", "Not a name",
        "Names become parts of NATS subjects: 1 to 48 of a-z, 0-9 and -, neither starting nor ending with -.";
    BadDuration = "E021", "Not a duration, or out of range",
        "A duration is a string with units: `\"500ms\"`, `\"15s\"`, `\"1h 30m\"`.";
    BadSize = "E022", "Not a size, or out of range",
        "A size is a string of a whole number and one of the units B, KiB, MiB and GiB: `\"64MiB\"`.";
    OutOfRange = "E023", "A number out of range",
        "The number is smaller or larger than the setting allows.";
    NotAChoice = "E024", "Not one of the choices",
        "The setting takes one of a few words.";
    BadUrl = "E025", "Not a usable URL",
        "A URL starts with http:// or https:// (for NATS: nats:// or tls://) and names a host. Endpoints take no user and password in it: use a header.";
    BadHeader = "E026", "A header that can't be set",
        "`webhook-*`, `ce-*`, `host`, `content-*`, `transfer-encoding` and what belongs to the connection are set by the engine. Names and values must be valid HTTP, without line breaks.";
    BadReference = "E027", "Not a reference to a value",
        "A value that stands elsewhere is `{ env = \"NAME\" }` or `{ file = \"path\" }`, each with an optional `prefix`.";
    LiteralSecret = "E028", "A secret in the file",
        "Pipeline files name secrets, they never hold them, because files are copied, shown and kept in repositories.";
    BadCidr = "E029", "Not an address range, a host or a port",
        "An entry of `allow` or `deny` is an address (`10.1.2.3`), a range (`10.1.0.0/16`, `fd00::/8`) or a host (`hooks.example.com`, `*.example.com`), each with an optional port (`10.1.0.0/16:8443`, `[fd00::/8]:443`); `deny` also takes a port alone (`:25`).";
    BadTypePattern = "E030", "Not a type pattern",
        "A pattern is an exact event type, or a prefix that ends in `*`. There is no `*` in the middle.";
    BadSubject = "E031", "Not a subject",
        "Subjects are tokens between dots. A source may use `*` and `>`; a publish names one subject, in which `{type}` and other attributes are filled in.";
    Loop = "E032", "Pipelines would take their own output",
        "The source of this pipeline takes the subject that the subscription publishes to, or that of another one does which publishes back, so that each event would come back again and again. It is told as a warning where it depends on the event's attributes. What `match` lets through and what type a step gives an event is not asked.";
    BadTime = "E033", "Not a point in time",
        "`start` is `\"new\"`, `\"all\"`, or a time with its offset, as in `2026-11-24T03:00:00Z`.";
    BadAddress = "E034", "Not an address to listen on",
        "An address is an IP and a port, as in `127.0.0.1:8470`.";
    BadStream = "E035", "Not a stream name",
        "Names of streams have no blanks, dots, `*`, `>`, slashes or backslashes.";
    OwnStream = "E036", "A stream of the engine's own",
        "The streams of retries, lanes and dead letters and the buckets are no sources, nor are mirrors and copies of them: what the engine stores there would come back to it, be stored again, and so on without end.";
    ShareTooSmall = "E037", "More attempts at once than there is room for",
        "What is taken from the source is shared by the subscriptions of a pipeline: each leaves the others as much of `max_in_flight` as it has itself, so that a slow endpoint never keeps events from its neighbours. A warning: it works, and what finds no room goes through the lane.";
    SchemaMissing = "E040", "A schema file can't be read",
        "The path is taken from the folder of the pipeline file.";
    SchemaNotJson = "E041", "A schema file is not JSON",
        "Line and column in the text are those of the schema file.";
    SchemaInvalid = "E042", "Not a JSON Schema",
        "The file is JSON, but not a schema of draft 2020-12, 2019-09 or 7. Patterns must do without look-around and back-references.";
    SchemaReference = "E043", "A schema refers to something out of reach",
        "`$ref` may lead into the schema itself, or to files in its folder and below. Nothing is fetched.";
    BadMatch = "E044", "`match` is not a JSON Schema",
        "`match` is written in TOML and means the same as the schema in JSON. It can refer only to itself.";
    ModuleMissing = "E050", "A module can't be read",
        "The path is taken from the folder of the pipeline file.";
    ModuleReference = "E051", "Not a reference to a module",
        "A module is named by version (`redact@1`, `redact@1.4`, `redact@1.4.2`), by digest (`redact@sha256:…`), or by a path that starts with ./ or ../ and leads to a WebAssembly component.";
    ModuleInvalid = "E052", "A module can't be used",
        "The file is no component of the contract `hookmill:transform@0.1.0`, or imports what guests don't get.";
    BadSettings = "E053", "Settings that can't be handed to a module",
        "Settings are handed over as JSON, which has no infinity and no NaN, and are a table. Events and data in test files are JSON as well.";
    SettingsRefused = "E054", "A module refuses its settings",
        "The module was loaded and its `configure` said no; the text is the module's own.";
    RegistryUnreachable = "E055", "The registry of modules can't be asked",
        "A step names a module of the registry, which lies in NATS, and no server answers or the registry can't be read.";
    ModuleUnknown = "E056", "Not in the registry of modules",
        "The registry has no module of that name, or none of its versions fits the reference. A yanked version fits only where it is named exactly.";
    SettingsSchema = "E059", "Settings that the module's schema refuses",
        "The module's metadata has a JSON Schema of its settings, which is asked before the module itself. `hookmill module test` shows what a module says about itself.";
    ReferenceUnusable = "E060", "A reference without a usable value",
        "A secret, URL or header value that stands elsewhere is not there, can't be read, or is not what it should be, where `hookmill check` runs. A warning, since an engine may run elsewhere; an error with `--references`. An engine says the same, and lets the lane rest as `misconfigured` until it is mended.";
    NoPipeline = "E070", "Tests without their pipeline",
        "`orders.test.toml` holds the tests of `orders.toml`, which stands in the same folder.";
    BadEvent = "E071", "Not an event that can be published",
        "The file of the event can't be read or doesn't hold one JSON text, or the event can't be published in binary mode.";
    UnknownSubscription = "E072", "A test of a subscription that isn't there",
        "`expect` and `answers` name subscriptions of the pipeline.";
    Unauthenticated = "E201", "No token, or an unknown one",
        "The admin API wants `Authorization: Bearer <token>` with the secret of a `[[token]]` of `hookmill.toml`. The command line takes it from `HOOKMILL_TOKEN` or `--token-file`.";
    ScopeMissing = "E202", "The token lacks a scope",
        "The token is known, but its `scopes` don't allow this. Each operation of the API says which scope it needs.";
    ModuleNotAllowed = "E203", "The token is for other modules",
        "The token's `modules` don't name this one.";
    LocalOnly = "E204", "Only for clients on the same machine",
        "Without a `[[token]]` the admin API answers requests alone that come from the same machine, ask for it by a loopback name, and come neither from a page of another site nor through a proxy.";
    NoSuchPath = "E205", "No such path",
        "The admin API has nothing there. `/docs` lists what it has.";
    MethodNotAllowed = "E206", "A method that the path doesn't take",
        "The path is there, but takes other methods; `Allow` names them.";
    NotAcceptable = "E207", "No form that the client takes",
        "What the request's `Accept` allows is not what there is: JSON, or `application/wasm` for the bytes of a module.";
    BadRequest = "E208", "A request that can't be understood",
        "A part of the path, a parameter or the body is not as it should be.";
    BodyTooLarge = "E209", "A body that is too large",
        "The body is larger than what is taken there.";
    UploadStalled = "E210", "An upload that stopped",
        "Bytes of the body were announced or begun, and did not come in time.";
    MediaType = "E211", "A body of the wrong kind",
        "A module is sent as `application/wasm` or `application/octet-stream`, everything else as `application/json`.";
    TooManyRequests = "E212", "Too many requests",
        "The token, or the address where there is none, has used up its `rate`. `Retry-After` says when to go on.";
    Busy = "E213", "Too much to do at once",
        "Others upload modules at this moment, and those are taken and compiled a few at a time. `Retry-After` says when to try again.";
    TookTooLong = "E214", "It took too long",
        "The request was given up; what it was to do may have happened or not.";
    StorageUnavailable = "E215", "NATS can't do it now",
        "The server that keeps modules, dead letters and lanes doesn't answer or refuses. Try again once it does.";
    VersionTaken = "E216", "The version has other bytes",
        "What was uploaded under a version never changes, not even after it was deleted.";
    ModuleInUse = "E217", "The module is in use",
        "Engines that are alive use this version. Take it out of their pipelines, or yank it: then ranges leave it.";
    ModuleNotFound = "E218", "No such module, or no such version",
        "The registry of modules has none of that name or version.";
    LetterNotFound = "E219", "No such dead letter",
        "No dead letter has this sequence: it was redriven, discarded, or removed because of its age.";
    RedriveRefused = "E220", "A dead letter that can't be redriven",
        "Its lane is full, only a reference to it is stored, or it can't be read.";
    LaneNotFound = "E221", "No such lane",
        "No pipeline of this engine has this subscription, and nothing waits in such a lane.";
    LaneOwned = "E222", "A lane that can't be moved",
        "Only a lane whose subscription is gone is adopted or dead-lettered: no file in force has it, and no engine runs an older one. Who adopts has to be in force, and what is for a pipeline as a whole (`_`) goes to a pipeline as a whole.";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// One problem of one file. As JSON: `code`, `file`, `line`, `column`, `key`, `message`, `hint`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Problem {
    /// What kind of problem.
    pub code: Code,
    /// The file, as it was named to us.
    pub file: String,
    /// Counted from 1; 0 means the file as a whole.
    pub line: usize,
    /// In characters, counted from 1; 0 means the file as a whole.
    pub column: usize,
    /// The setting, such as `deliver.timeout`; empty if it is about none.
    pub key: String,
    /// What is wrong. Never a secret.
    pub message: String,
    /// How to mend it.
    pub hint: String,
    /// How much it matters. Left out of JSON where it is an error.
    #[serde(skip_serializing_if = "Severity::is_error")]
    pub severity: Severity,
}

/// How much a problem matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing can be run like this.
    #[default]
    Error,
    /// It can be run, and may be right elsewhere.
    Warning,
}

impl Severity {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
    fn is_error(&self) -> bool {
        *self == Self::Error
    }
}

impl Problem {
    /// A problem of a file as a whole.
    pub fn new(code: Code, file: impl Into<String>, message: impl Into<String>) -> Self {
        let (file, message) = (file.into(), message.into());
        let (key, hint, severity) = (String::new(), String::new(), Severity::Error);
        Self { code, file, line: 0, column: 0, key, message, hint, severity }
    }

    /// Says that it is none for everybody.
    #[must_use]
    pub fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    /// Says where.
    #[must_use]
    pub fn at(mut self, line: usize, column: usize) -> Self {
        (self.line, self.column) = (line, column);
        self
    }

    /// Says which setting.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = key.into();
        self
    }

    /// Says how to mend it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }
}

impl fmt::Display for Problem {
    /// `error[E021]: pipelines/orders.toml:14: deliver.timeout is "0s"`, and the hint on a line of its own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{severity}[{}]: {}", self.code, self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        write!(f, ": {}", self.message)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, "\nhint: {}", self.hint) }
    }
}

/// Where the lines of a text begin, so that many places in a long one are told in no time.
#[derive(Debug)]
pub(super) struct Lines(Vec<usize>);

impl Lines {
    pub(super) fn of(text: &str) -> Self {
        Self(std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect())
    }

    /// Line and column of a byte offset of that text, both counted from 1, columns in characters.
    pub(super) fn place(&self, text: &str, span: &Range<usize>) -> (usize, usize) {
        let at = text.floor_char_boundary(span.start.min(text.len()));
        let line = self.0.partition_point(|start| *start <= at);
        let start = self.0.get(line.saturating_sub(1)).copied().unwrap_or(0);
        (line, text[start..at].chars().count() + 1)
    }
}

/// The page `docs/errors.md`.
pub fn errors_page() -> String {
    let mut page = String::from(
        "# Errors\n\n\
         <!-- Generated from engine/src/config/report.rs. Rewrite it with: HOOKMILL_BLESS=1 cargo test -p hookmill --lib config:: -->\n\n\
         `hookmill check` reports every problem of every file in one run: E001 to E199. The admin API answers with the codes \
         from E200 on, and with E052 for a module that can't be used. A code keeps its meaning for ever.\n\n",
    );
    for code in Code::ALL {
        let _ = writeln!(page, "## {code}: {}\n\n{}\n", code.title(), code.help());
    }
    page.truncate(page.trim_end().len());
    page.push('\n');
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_from_one_and_in_characters() {
        let text = "ab\nä€x\n\nend";
        let lines = Lines::of(text);
        let place = |start: usize| lines.place(text, &(start..start));
        assert_eq!((place(0), place(1), place(2)), ((1, 1), (1, 2), (1, 3)));
        assert_eq!((place(3), place(5), place(8)), ((2, 1), (2, 2), (2, 3)));
        assert_eq!(place(4), (2, 1), "within a character");
        assert_eq!((place(9), place(10), place(11)), ((2, 4), (3, 1), (4, 1)));
        assert_eq!(place(1_000), (4, 4), "beyond the end");
    }
}
