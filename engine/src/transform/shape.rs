//! Whether the handler that a component exports has the types of the contract. Linking looks at the imports alone;
//! without this, a lie about a type would come out with the first instance, long after the module was taken.

use wasmtime::Engine;
use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

use super::bindings::exports::hookmill::transform::handler;
use super::imports::HANDLER;

/// Compares the two functions. The error says which differs and where.
pub(super) fn check(engine: &Engine, component: &Component) -> Result<(), wasmtime::Error> {
    let ty = component.component_type();
    let types = ty.instance_type();
    let item = ty.get_export(engine, HANDLER).map(|export| export.ty);
    let Some(ComponentItem::ComponentInstance(handler)) = item else {
        return Err(wasmtime::format_err!("what it exports as {HANDLER} is no interface"));
    };
    let function = |name| match handler.get_export(engine, name).map(|export| export.ty) {
        Some(ComponentItem::ComponentFunc(function)) => Ok(function),
        _ => Err(wasmtime::format_err!("its handler has no function {name}")),
    };
    function("configure")?
        .typecheck::<(&str,), (Result<(), String>,)>(&types)
        .map_err(|error| error.context("configure"))?;
    function("apply")?
        .typecheck::<(handler::Event<'_>,), (Result<handler::Verdict, handler::Failure>,)>(&types)
        .map_err(|error| error.context("apply"))
}
