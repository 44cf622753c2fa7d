//! Write Hookmill transforms in Rust.
//!
//! A transform is a type that implements [`Transform`], handed to [`export_transform!`]. Built for
//! `wasm32-unknown-unknown` it is a module that Hookmill runs; built for any other target it is a plain library, whose
//! logic is tested with `cargo test` (see [`testing`]).
//!
//! ```
//! use hookmill_transform::{Event, Failure, Transform, Verdict, export_transform};
//! use serde::Deserialize;
//!
//! /// What the pipeline file says under `settings`.
//! #[derive(Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Settings {
//!     region: String,
//! }
//!
//! struct Stamp(Settings);
//!
//! impl Transform for Stamp {
//!     type Settings = Settings;
//!
//!     fn configure(settings: Settings) -> Result<Self, String> {
//!         if settings.region.is_empty() {
//!             return Err("region is empty; give it a name such as \"eu\"".to_owned());
//!         }
//!         Ok(Self(settings))
//!     }
//!
//!     fn apply(&mut self, mut event: Event) -> Result<Verdict, Failure> {
//!         event.set_extension("region", self.0.region.as_str());
//!         Ok(event.into())
//!     }
//! }
//!
//! export_transform!(Stamp);
//! ```

pub mod clock;
mod event;
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub mod guest;
mod headers;
pub mod log;
mod pointer;
mod settings;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
mod verdict;

use serde::de::DeserializeOwned;
pub use serde_json;

pub use crate::event::{Attribute, Event};
pub use crate::headers::{HeaderError, check_header};
pub use crate::pointer::{Pointer, PointerError};
pub use crate::settings::NoSettings;
pub use crate::verdict::{Failure, Output, Verdict};

/// A transform: made once from its settings, then called for one event after another.
///
/// The engine keeps an instance for many events of one step of one subscription, and replaces it whenever it likes:
/// what it remembers between calls may be gone at the next.
pub trait Transform: Sized + 'static {
    /// What the pipeline file says under `settings`. Derive `Deserialize` with `#[serde(deny_unknown_fields)]`, so that
    /// a misspelt setting is an error; [`NoSettings`] where there is nothing to set.
    type Settings: DeserializeOwned;

    /// Makes the transform. The error names the setting, what was found and what is allowed; it is shown by
    /// `hookmill check`, long before an event comes.
    fn configure(settings: Self::Settings) -> Result<Self, String>;

    /// Decides about one event. Answer [`Verdict::Keep`] when nothing changed: it is cheaper, and the event stays as it
    /// came, byte for byte.
    fn apply(&mut self, event: Event) -> Result<Verdict, Failure>;
}

/// Makes a [`Transform`] the one that this module exports. Once in a crate of type `cdylib`; does nothing on targets
/// other than WebAssembly.
///
/// `metadata` is what the module says about itself: a JSON file, named from the source file, with `description`,
/// `settings` (their JSON Schema), `samples` and `limits`. It is put into the module as it is; `hookmill module test`
/// checks it.
///
/// ```text
/// export_transform!(Stamp, metadata = "../metadata.json");
/// ```
#[macro_export]
macro_rules! export_transform {
    ($transform:ty, metadata = $path:literal $(,)?) => {
        $crate::export_transform!($transform);
        #[cfg(target_family = "wasm")]
        const _: () = {
            // The attribute is unsafe where a section of that name means something to a linker; to this one none does.
            #[used]
            #[unsafe(link_section = "hookmill:metadata")]
            static METADATA: [u8; include_bytes!($path).len()] = *include_bytes!($path);
        };
        // A file that is missing is missed in tests already.
        #[cfg(not(target_family = "wasm"))]
        const _: &[u8] = include_bytes!($path);
    };
    ($transform:ty $(,)?) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            type Exported = $crate::guest::Exported<$transform>;
    $crate::guest::bindings::export!(Exported with_types_in $crate::guest::bindings);
        };
    };
}
