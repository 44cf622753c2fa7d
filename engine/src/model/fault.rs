//! What went wrong, whose doing it is and whether to try again: decided where it happens, carried as data.

use std::fmt;
use std::time::Duration;

/// Where on the path of an event something went wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Stage {
    /// Taking and parsing the message.
    Source,
    /// JSON Schema validation.
    Validate,
    /// A WebAssembly step.
    Transform,
    /// A step that asks a language model.
    Llm,
    /// The webhook or the publish at the end.
    Deliver,
}

/// What went wrong. A closed set; the text of a [`Fault`] never has to be read to decide.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Code {
    /// The message is no `CloudEvent`.
    NotCloudEvent,
    /// A JSON Schema refuses the event.
    Schema,
    /// The data is said to be JSON and can't be read, so that `match` can't say whether the event is wanted.
    Unjudged,
    /// No schema covers the event and the pipeline rejects such events.
    UnknownType,
    /// The event or what became of it is larger than can be stored.
    TooLarge,
    /// Starting the message has ended the engine three times.
    CrashLoop,
    /// A guest said that it rejects the event.
    Rejected,
    /// A guest asked to be called again later.
    GuestRetry,
    /// A guest trapped or broke a memory, table or output limit.
    GuestTrap,
    /// What a guest returned breaks the contract (names, headers, sizes).
    GuestOutput,
    /// A guest or a step ran out of time.
    StepTimeout,
    /// The steps of the subscription changed under a stored task.
    StepsChanged,
    /// The endpoint answered with a status that is no success.
    Status,
    /// It answered with a status that is neither success nor among those that are retried.
    UnlistedStatus,
    /// No full answer within the time-out.
    Timeout,
    /// No connection to the endpoint.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// The host name did not resolve.
    Resolve,
    /// The connection broke, or what came back was no HTTP.
    Protocol,
    /// The address or the URL is refused by the egress rules.
    Egress,
    /// A secret, URL or header reference has no usable value.
    Config,
    /// The process has no connection, or no file descriptor, left to reach the endpoint with.
    OutOfFiles,
    /// The lane is full while its endpoint is out of reach.
    LaneFull,
    /// A publish to a NATS subject failed.
    Publish,
    /// The engine itself failed at this event (a panic).
    Internal,
}

impl Code {
    /// The text in labels of metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotCloudEvent => "not_cloudevent",
            Self::Schema => "schema",
            Self::Unjudged => "unjudged",
            Self::UnknownType => "unknown_type",
            Self::TooLarge => "too_large",
            Self::CrashLoop => "crash_loop",
            Self::Rejected => "rejected",
            Self::GuestRetry => "guest_retry",
            Self::GuestTrap => "guest_trap",
            Self::GuestOutput => "guest_output",
            Self::StepTimeout => "step_timeout",
            Self::StepsChanged => "steps_changed",
            Self::Status => "status",
            Self::UnlistedStatus => "unlisted_status",
            Self::Timeout => "timeout",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Resolve => "resolve",
            Self::Protocol => "protocol",
            Self::Egress => "egress",
            Self::Config => "config",
            Self::OutOfFiles => "out_of_files",
            Self::LaneFull => "lane_full",
            Self::Publish => "publish",
            Self::Internal => "internal",
        }
    }
}

/// Whose doing it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Whose {
    /// Who published the event.
    Publisher,
    /// Who wrote the module.
    Module,
    /// Who runs the endpoint.
    Endpoint,
    /// Who wrote the pipeline file or runs the engine.
    Operator,
    /// Us.
    Engine,
}

/// Why something rests in the dead-letter stream. A closed set; the texts are tokens of subjects.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
#[expect(missing_docs, reason = "each is its own text, explained in docs/dead-letters.md")]
pub enum Reason {
    NotCloudEvent,
    Schema,
    UnknownType,
    TooLarge,
    CrashLoop,
    Foreign,
    Rejected,
    StepFailed,
    StepTimeout,
    Llm,
    StepsChanged,
    Exhausted,
    GivenUp,
    Gone,
    Egress,
    Config,
    LaneFull,
    TargetTooLarge,
}

impl Reason {
    /// Every reason, in the order of the path.
    pub const ALL: [Self; 18] = [
        Self::NotCloudEvent,
        Self::Schema,
        Self::UnknownType,
        Self::TooLarge,
        Self::CrashLoop,
        Self::Foreign,
        Self::Rejected,
        Self::StepFailed,
        Self::StepTimeout,
        Self::Llm,
        Self::StepsChanged,
        Self::Exhausted,
        Self::GivenUp,
        Self::Gone,
        Self::Egress,
        Self::Config,
        Self::LaneFull,
        Self::TargetTooLarge,
    ];

    /// The token in subjects, headers, metrics and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotCloudEvent => "not_cloudevent",
            Self::Schema => "schema",
            Self::UnknownType => "unknown_type",
            Self::TooLarge => "too_large",
            Self::CrashLoop => "crash_loop",
            Self::Foreign => "foreign",
            Self::Rejected => "rejected",
            Self::StepFailed => "step_failed",
            Self::StepTimeout => "step_timeout",
            Self::Llm => "llm",
            Self::StepsChanged => "steps_changed",
            Self::Exhausted => "exhausted",
            Self::GivenUp => "given_up",
            Self::Gone => "gone",
            Self::Egress => "egress",
            Self::Config => "config",
            Self::LaneFull => "lane_full",
            Self::TargetTooLarge => "target_too_large",
        }
    }

    /// The reason with this token.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether trying again can help.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Again {
    /// Never: dead-letter with this reason.
    Never(Reason),
    /// Perhaps later.
    Later {
        /// The other side asked to wait this long (`Retry-After`), already cut to what is allowed.
        after: Option<Duration>,
        /// The dead-letter reason once the schedule is used up.
        exhausted: Reason,
    },
    /// Once it is mended what the event has no part in: the attempt was none, and the task rests in its lane as it was.
    Held,
}

impl Again {
    /// The reason of the dead letter, should it become one.
    pub fn reason(self) -> Reason {
        match self {
            Self::Never(reason) | Self::Later { exhausted: reason, .. } => reason,
            Self::Held => Reason::Config,
        }
    }
}

/// One failure of one task.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Where it happened.
    pub stage: Stage,
    /// What happened.
    pub code: Code,
    /// Whose doing it is.
    pub whose: Whose,
    /// Whether to try again.
    pub again: Again,
    /// The HTTP status, if an endpoint answered.
    pub status: Option<u16>,
    /// How long its endpoint wants no requests at all (429 and 503 with `Retry-After`).
    pub hold: Option<Duration>,
    /// One line for a person. Never payload, never a secret.
    pub detail: String,
}

/// Longest detail, in bytes: it travels in a message header.
pub const DETAIL_BYTES_MAX: usize = 1024;

impl Fault {
    /// A fault that no later attempt mends.
    pub fn never(stage: Stage, code: Code, whose: Whose, reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            stage,
            code,
            whose,
            again: Again::Never(reason),
            status: None,
            hold: None,
            detail: cut(detail.into()),
        }
    }

    /// A fault that a later attempt may mend; `exhausted` names the end if none does.
    pub fn later(
        stage: Stage,
        code: Code,
        whose: Whose,
        exhausted: Reason,
        detail: impl Into<String>,
    ) -> Self {
        let again = Again::Later { after: None, exhausted };
        Self { stage, code, whose, again, status: None, hold: None, detail: cut(detail.into()) }
    }

    /// A fault of the operator's or our own at a delivery that no event has a part in.
    pub fn held(code: Code, whose: Whose, detail: impl Into<String>) -> Self {
        let (stage, again) = (Stage::Deliver, Again::Held);
        Self { stage, code, whose, again, status: None, hold: None, detail: cut(detail.into()) }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Fault {}

/// An error with all its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// Cuts a text to [`DETAIL_BYTES_MAX`] and to one line.
fn cut(mut text: String) -> String {
    if text.len() > DETAIL_BYTES_MAX {
        text.truncate(text.floor_char_boundary(DETAIL_BYTES_MAX - 3));
        text.push('…');
    }
    if text.contains(char::is_control) { text.replace(char::is_control, " ") } else { text }
}
