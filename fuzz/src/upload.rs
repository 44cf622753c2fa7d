//! A module that somebody uploads: taken, or refused with words that say why. One that is taken is configured and gets
//! an event as well.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hookmill::model::Event;
use hookmill::transform::{Compile, Compiler, Host, HostSettings, Module, ModuleError, Settings, Step};
use hookmill_tests::engine::built_program;
use hookmill_tests::guest::Guest;
use hookmill_tests::hostile::{component, wasi};
use rand::RngExt as _;
use rand::rngs::StdRng;
use tokio::runtime::{Builder, Runtime};

use crate::grow::Garden;
use crate::mutate;
use crate::run::{TAKEN, Target};

/// Longest refusal, in bytes.
const TEXT_BYTES_MAX: usize = 2048;

/// Every so many inputs one is compiled in a child process as well, as the engine does it; the others in this process,
/// where a panic is seen and nothing has to be started.
const CHILD_EVERY: usize = 50;

/// The target.
#[derive(Debug)]
pub struct Upload {
    runtime: Runtime,
    here: Arc<Host>,
    child: Arc<Host>,
    garden: Garden,
    event: Event,
    inputs: Cell<usize>,
}

impl Default for Upload {
    /// Needs the program `hookmill` beside this one.
    fn default() -> Self {
        let host = |by| {
            let compile = Compile { by, ..Compile::default() };
            let settings =
                HostSettings { instances: 4, memory_bytes: 256 << 20, compile, ..HostSettings::default() };
            Host::new(settings).expect("a sandbox")
        };
        let text =
            br#"{"specversion":"1.0","id":"1","source":"/s","type":"t","a":"b","n":1,"data":{"x":[1,2]}}"#;
        Self {
            runtime: Builder::new_current_thread().enable_all().build().expect("a runtime"),
            here: host(Compiler::ThisProcess),
            child: host(Compiler::Program(built_program())),
            garden: Garden::default(),
            event: Event::from_structured(&Bytes::from_static(text)).expect("an event"),
            inputs: Cell::new(0),
        }
    }
}

impl Target for Upload {
    fn name(&self) -> &'static str {
        "upload"
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        let guests = [Guest::keep(), Guest::drop(), wasi::look_around(), wasi::network()];
        let cores = guests.iter().map(Guest::core);
        let components =
            [component::honest(), component::nested(2), component::core_instances(3), guests[0].component()];
        cores.chain(components).collect()
    }

    fn next(&self, random: &mut StdRng, corpus: &[Vec<u8>]) -> Vec<u8> {
        let input = mutate::pick(random, corpus);
        let other = mutate::pick(random, corpus);
        let strange = match random.random_range(0..10) {
            0 => self.garden.guest(random),
            1 => self.garden.component(random),
            2 | 3 => self.garden.changed(random, input),
            4..=7 => mutate::by_section(random, input, other),
            _ => None,
        };
        strange.unwrap_or_else(|| mutate::bytes(random, input, other))
    }

    fn take(&self, input: &[u8]) -> Result<String, String> {
        self.runtime.block_on(async {
            let bytes = Bytes::copy_from_slice(input);
            let number = self.inputs.replace(self.inputs.get() + 1);
            let here = self.here.load_in_background("m", bytes.clone()).await;
            if number.is_multiple_of(CHILD_EVERY) {
                let child = self.child.load_in_background("m", bytes).await;
                agree(here.as_ref().err(), child.as_ref().err())?;
            }
            match here {
                Err(error) => clear(error.to_string()),
                Ok(module) => self.run(module).await,
            }
        })
    }
}

impl Upload {
    /// Configures the module and gives it an event.
    async fn run(&self, module: Module) -> Result<String, String> {
        let settings =
            Settings { timeout: Duration::from_millis(50), memory_bytes: 16 << 20, ..Settings::default() };
        match Step::new(Arc::clone(&self.here), module, settings).await {
            Err(error) => clear(error.to_string()),
            Ok(step) => match step.apply(&self.event).await {
                Ok(_) => Ok(TAKEN.to_owned()),
                Err(fault) => clear(fault.detail),
            },
        }
    }
}

/// The child must say the same, unless the module was too much for its limits, which this process hasn't.
fn agree(here: Option<&ModuleError>, child: Option<&ModuleError>) -> Result<(), String> {
    match (here, child) {
        (_, Some(ModuleError::CompileTime { .. } | ModuleError::CompileMemory { .. })) | (None, None) => {
            Ok(())
        }
        (Some(here), Some(child)) if here.to_string() == child.to_string() => Ok(()),
        (here, child) => Err(format!("this process says {here:?}, the child {child:?}")),
    }
}

/// A refusal is one line, not too long, and names the module.
fn clear(text: String) -> Result<String, String> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(format!(
            "a refusal of {} bytes: {}…",
            text.len(),
            text.chars().take(200).collect::<String>()
        ));
    }
    if !text.contains("module m") && !text.contains("memory = ") {
        return Err(format!("a refusal that doesn't name the module: {text:?}"));
    }
    if text.contains(char::is_control) {
        return Err(format!("a refusal with control characters: {text:?}"));
    }
    Ok(text)
}
