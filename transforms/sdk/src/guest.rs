//! The contract's side: generated bindings, and the moves between their types and ours. Only on WebAssembly.

use std::cell::RefCell;
use std::marker::PhantomData;

use self::bindings::exports::hookmill::transform::handler::{self as contract, Guest};
use self::bindings::hookmill::transform::{log as engine_log, types};
use crate::log::Level;
use crate::{Attribute, Event, Failure, Output, Transform, Verdict};

/// Generated from `transform.wit`.
pub mod bindings {
    wit_bindgen::generate!({
        path: "../wit",
        world: "transform",
        pub_export_macro: true,
        default_bindings_module: "hookmill_transform::guest::bindings",
    });
}

/// A transform behind the generated `Guest` trait.
#[derive(Debug)]
pub struct Exported<T>(PhantomData<T>);

type Apply = Box<dyn FnMut(Event) -> Result<Verdict, Failure>>;

thread_local! {
    /// The transform of this instance, once `configure` has made it.
    static CONFIGURED: RefCell<Option<Apply>> = const { RefCell::new(None) };
}

impl<T: Transform> Guest for Exported<T> {
    fn configure(settings: String) -> Result<(), String> {
        std::panic::set_hook(Box::new(|panic| {
            // The place only: a panic's message may quote the event.
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            crate::log::error(format!("panicked at {place}"));
        }));
        let mut transform: T = crate::settings::configure(&settings)?;
        CONFIGURED.set(Some(Box::new(move |event| transform.apply(event))));
        Ok(())
    }

    fn apply(event: contract::Event) -> Result<contract::Verdict, contract::Failure> {
        CONFIGURED.with_borrow_mut(|configured| match configured {
            Some(apply) => apply(event.into()).map(Into::into).map_err(Into::into),
            None => Err(Failure::rejected("apply was called before configure").into()),
        })
    }
}

pub(crate) fn log(level: Level, message: &str) {
    let level = match level {
        Level::Debug => engine_log::Level::Debug,
        Level::Info => engine_log::Level::Info,
        Level::Warn => engine_log::Level::Warn,
        Level::Error => engine_log::Level::Error,
    };
    engine_log::log(level, message);
}

impl From<types::Event> for Event {
    fn from(event: types::Event) -> Self {
        let extension = |extension: types::Extension| (extension.name, extension.value.into());
        Self {
            id: event.id,
            source: event.source,
            ty: event.type_,
            subject: event.subject,
            time: event.time,
            datacontenttype: event.datacontenttype,
            dataschema: event.dataschema,
            extensions: event.extensions.into_iter().map(extension).collect(),
            data: event.data,
        }
    }
}

impl From<Event> for types::Event {
    fn from(event: Event) -> Self {
        let extension = |(name, value): (String, Attribute)| types::Extension { name, value: value.into() };
        Self {
            id: event.id,
            source: event.source,
            type_: event.ty,
            subject: event.subject,
            time: event.time,
            datacontenttype: event.datacontenttype,
            dataschema: event.dataschema,
            extensions: event.extensions.into_iter().map(extension).collect(),
            data: event.data,
        }
    }
}

impl From<types::Value> for Attribute {
    fn from(value: types::Value) -> Self {
        match value {
            types::Value::Text(text) => Self::Text(text),
            types::Value::Integer(integer) => Self::Integer(integer),
            types::Value::Boolean(boolean) => Self::Boolean(boolean),
        }
    }
}

impl From<Attribute> for types::Value {
    fn from(attribute: Attribute) -> Self {
        match attribute {
            Attribute::Text(text) => Self::Text(text),
            Attribute::Integer(integer) => Self::Integer(integer),
            Attribute::Boolean(boolean) => Self::Boolean(boolean),
        }
    }
}

impl From<Output> for types::Output {
    fn from(output: Output) -> Self {
        let header = |(name, value): (String, String)| types::Header { name, value };
        Self { event: output.event.into(), headers: output.headers.into_iter().map(header).collect() }
    }
}

impl From<Verdict> for types::Verdict {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Replace(output) => Self::Replace(output.into()),
            Verdict::Split(outputs) => Self::Split(outputs.into_iter().map(Into::into).collect()),
            Verdict::Drop(why) => Self::Drop(why),
            Verdict::Keep => Self::Keep,
        }
    }
}

impl From<Failure> for types::Failure {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Rejected(text) => Self::Rejected(text),
            Failure::Retry(text) => Self::Retry(text),
        }
    }
}
