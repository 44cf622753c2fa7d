//! Drops events, or sets their headers, subject or type, by rules. See `docs/transforms/route.md`.

mod condition;
mod number;

use hookmill_transform::serde_json::{Map, Value};
use hookmill_transform::{Event, Failure, Output, Transform, Verdict, check_header, export_transform};
use serde::Deserialize;

use crate::condition::{Condition, RawCondition, View};

/// What the pipeline file says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Asked in this order.
    rules: Vec<RawRule>,
}

/// A rule as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    /// When it applies; always, when left out.
    when: Option<RawCondition>,
    /// Drop the event, with this reason.
    drop: Option<String>,
    /// HTTP headers for the delivery.
    #[serde(default)]
    headers: Map<String, Value>,
    /// The new subject.
    subject: Option<String>,
    /// The new type.
    #[serde(rename = "type")]
    ty: Option<String>,
    /// Go on with the rules below, where else this rule would be the last.
    #[serde(rename = "continue", default)]
    goes_on: bool,
}

/// A rule that can't be wrong.
#[derive(Debug)]
struct Rule {
    when: Option<Condition>,
    action: Action,
    goes_on: bool,
}

#[derive(Debug)]
enum Action {
    Drop(String),
    Set { headers: Vec<(String, String)>, subject: Option<String>, ty: Option<String> },
}

/// The transform.
#[derive(Debug)]
pub struct Route {
    rules: Vec<Rule>,
}

impl Transform for Route {
    type Settings = Settings;

    fn configure(settings: Settings) -> Result<Self, String> {
        if settings.rules.is_empty() {
            return Err("rules is empty; give at least one".to_owned());
        }
        let check = |(index, rule)| Rule::check(rule).map_err(|error| format!("rules[{index}]{error}"));
        Ok(Self { rules: settings.rules.into_iter().enumerate().map(check).collect::<Result<_, _>>()? })
    }

    fn apply(&mut self, event: Event) -> Result<Verdict, Failure> {
        let (mut headers, mut subject, mut ty) = (Vec::new(), None, None);
        let view = View::new(&event);
        for rule in &self.rules {
            if let Some(when) = &rule.when
                && !when.holds(&view)?
            {
                continue;
            }
            match &rule.action {
                Action::Drop(reason) => return Ok(Verdict::Drop(reason.clone())),
                Action::Set { headers: new_headers, subject: new_subject, ty: new_ty } => {
                    for (name, value) in new_headers {
                        set_header(&mut headers, name, value);
                    }
                    subject = new_subject.as_ref().or(subject);
                    ty = new_ty.as_ref().or(ty);
                }
            }
            if !rule.goes_on {
                break;
            }
        }
        let (subject, ty) = (subject.cloned(), ty.cloned());
        Ok(verdict(event, headers, subject, ty))
    }
}

fn set_header(headers: &mut Vec<(String, String)>, name: &str, value: &str) {
    headers.retain(|(known, _)| known != name);
    headers.push((name.to_owned(), value.to_owned()));
}

fn verdict(
    mut event: Event,
    headers: Vec<(String, String)>,
    subject: Option<String>,
    ty: Option<String>,
) -> Verdict {
    let same_subject = subject.is_none() || subject == event.subject;
    let same_type = ty.as_ref().is_none_or(|ty| *ty == event.ty);
    if headers.is_empty() && same_subject && same_type {
        return Verdict::Keep;
    }
    event.subject = subject.or(event.subject);
    event.ty = ty.unwrap_or(event.ty);
    Verdict::Replace(Output { event, headers })
}

impl Rule {
    fn check(raw: RawRule) -> Result<Self, String> {
        let sets = !raw.headers.is_empty() || raw.subject.is_some() || raw.ty.is_some();
        for (name, value) in [("subject", &raw.subject), ("type", &raw.ty), ("drop", &raw.drop)] {
            if value.as_deref() == Some("") {
                return Err(format!(".{name}: is empty"));
            }
        }
        let when = raw.when.map(RawCondition::check).transpose().map_err(|error| format!(".when{error}"))?;
        let action = match raw.drop {
            None if !sets => return Err(": does nothing; give drop, headers, subject or type".to_owned()),
            None => Action::Set { headers: headers(&raw.headers)?, subject: raw.subject, ty: raw.ty },
            Some(_) if sets || raw.goes_on => {
                return Err(": has drop, which goes with no headers, subject, type or continue".to_owned());
            }
            Some(reason) => Action::Drop(reason),
        };
        Ok(Self { when, action, goes_on: raw.goes_on })
    }
}

fn headers(raw: &Map<String, Value>) -> Result<Vec<(String, String)>, String> {
    let header = |(name, value): (&String, &Value)| {
        let wrong = |text: &str| format!(".headers.\"{name}\": {text}");
        let Value::String(value) = value else { return Err(wrong("is no text; put the value in quotes")) };
        check_header(name, value).map_err(|error| wrong(&error.to_string()))?;
        Ok((name.to_ascii_lowercase(), value.clone()))
    };
    raw.iter().map(header).collect()
}

export_transform!(Route, metadata = "../metadata.json");

#[cfg(test)]
mod tests;
