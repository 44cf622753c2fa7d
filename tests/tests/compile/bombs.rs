//! Modules that are small and take for ever to compile. None of them is a transform: nobody gets as far as to ask.

use std::fmt::Write as _;

/// A component around one core module with these fields.
fn component(fields: &str) -> Vec<u8> {
    let parsed = wat::parse_str(format!("(component (core module {fields}))"));
    // The error itself holds the whole text.
    parsed.unwrap_or_else(|error| panic!("no WebAssembly: {:.200}", error.to_string()))
}

/// Loops in loops, and every variable lives through all of them: what a compiler notes of each at each head of a loop
/// grows with the square of the module.
pub fn nested_loops(depth: usize, variables: usize) -> Vec<u8> {
    let mut text = format!("(func (param i32) (local{})\n", " i32".repeat(variables));
    for at in 1..=variables {
        let _ = writeln!(text, "(local.set {at} (local.get 0))");
    }
    text += &"(loop ".repeat(depth);
    for at in 1..=variables {
        let _ = writeln!(text, "(local.set {at} (i32.add (local.get {at}) (i32.const 1)))");
    }
    text += &"(br_if 0 (local.get 0)))".repeat(depth);
    component(&(text + ")"))
}

/// Very many functions, each of them small.
pub fn many_functions(count: usize) -> Vec<u8> {
    let body = "(param i32 i32) (result i32) (i32.add (i32.mul (local.get 0) (local.get 1)) \
                (i32.rem_u (local.get 0) (i32.or (local.get 1) (i32.const 1))))";
    component(&format!("(func {body})").repeat(count))
}

/// One function with very many branches, all to the same few places.
pub fn many_branches(count: usize, variables: usize) -> Vec<u8> {
    let mut text = format!("(func (param i32) (local{})\n", " i64".repeat(variables));
    for at in 0..count {
        let (one, other) = (1 + at % variables, 1 + (at * 7 + 3) % variables);
        let _ = writeln!(
            text,
            "(block (block (block (br_table 0 1 2 0 1 2 (local.get 0)))\
             (local.set {one} (i64.add (local.get {other}) (i64.const {at}))))\
             (local.set {other} (i64.xor (local.get {one}) (local.get {other}))))"
        );
    }
    component(&(text + ")"))
}
