//! The one place of the workspace with `unsafe`: native code from a file becomes a component.

use std::path::Path;

use wasmtime::Engine;
use wasmtime::component::Component;

/// The component whose native code is in `path`, mapped, not read. Where the file's file system doesn't allow that code
/// of it is run (`noexec`), the code is read into memory.
#[expect(unsafe_code, reason = "what a file says is run as it is; nothing in safe Rust can vouch for that")]
pub(super) fn component(engine: &Engine, path: &Path) -> wasmtime::Result<Component> {
    // SAFETY: wasmtime wants bytes that its own `serialize` made, and that nobody changes while they are mapped. Callers
    // give files of a folder that `trust` has looked at: it and all above it can be written to by this user and root
    // alone. There, only `Codes` makes files: from what a compiler of this very program said, whole (the hash kept with
    // them is checked before), and never changed after they got their names, only removed.
    unsafe {
        Component::deserialize_file(engine, path)
            .or_else(|_| Component::deserialize(engine, std::fs::read(path)?))
    }
}
