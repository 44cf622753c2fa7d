//! Components written by hand: what no encoder would make, such as lies about types and components in components.

use std::fmt::Write as _;

/// A transform that keeps every event, as text, without an import.
const HONEST: &str = r#"(component
  (core module $main
    (memory (export "memory") 2)
    (global $free (mut i32) (i32.const 4096))
    (data (i32.const 1028) "\03")
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
      (global.set $free (i32.add (local.get $at) (local.get 3)))
      (local.get $at))
    (func (export "configure") (param i32 i32) (result i32) (i32.const 16))
    (func (export "apply") (param i32) (result i32) (global.set $free (i32.const 4096)) (i32.const 1024)))
  (core instance $main (instantiate $main))
  (alias core export $main "memory" (core memory $memory))
  (alias core export $main "realloc" (core func $realloc))
  (type $value (variant (case "text" string) (case "integer" s32) (case "boolean" bool)))
  (type $extension (record (field "name" string) (field "value" $value)))
  (type $event (record (field "id" string) (field "source" string) (field "type" string)
    (field "subject" (option string)) (field "time" (option string)) (field "datacontenttype" (option string))
    (field "dataschema" (option string)) (field "extensions" (list $extension)) (field "data" (option (list u8)))))
  (type $header (record (field "name" string) (field "value" string)))
  (type $output (record (field "event" $event) (field "headers" (list $header))))
  (type $verdict (variant
    (case "replace" $output) (case "split" (list $output)) (case "drop" string) (case "keep")))
  (type $failure (variant (case "rejected" string) (case "retry" string)))
  (func $configure (param "settings" string) (result (result (error string)))
    (canon lift (core func $main "configure") (memory $memory) (realloc $realloc)))
  (func $apply (param "event" $event) (result (result $verdict (error $failure)))
    (canon lift (core func $main "apply") (memory $memory) (realloc $realloc)))
  (component $names
    (type $value' (variant (case "text" string) (case "integer" s32) (case "boolean" bool)))
    (import "value" (type $value (eq $value')))
    (type $extension' (record (field "name" string) (field "value" $value)))
    (import "extension" (type $extension (eq $extension')))
    (type $event' (record (field "id" string) (field "source" string) (field "type" string)
      (field "subject" (option string)) (field "time" (option string)) (field "datacontenttype" (option string))
      (field "dataschema" (option string)) (field "extensions" (list $extension)) (field "data" (option (list u8)))))
    (import "event" (type $event (eq $event')))
    (type $header' (record (field "name" string) (field "value" string)))
    (import "header" (type $header (eq $header')))
    (type $output' (record (field "event" $event) (field "headers" (list $header))))
    (import "output" (type $output (eq $output')))
    (type $verdict' (variant
      (case "replace" $output) (case "split" (list $output)) (case "drop" string) (case "keep")))
    (import "verdict" (type $verdict (eq $verdict')))
    (type $failure' (variant (case "rejected" string) (case "retry" string)))
    (import "failure" (type $failure (eq $failure')))
    (import "configure-it" (func $configure (param "settings" string) (result (result (error string)))))
    (import "apply-it" (func $apply (param "event" $event) (result (result $verdict (error $failure)))))
    (export $value-out "value" (type $value))
    (type $extension-out' (record (field "name" string) (field "value" $value-out)))
    (export $extension-out "extension" (type $extension-out'))
    (type $event-out' (record (field "id" string) (field "source" string) (field "type" string)
      (field "subject" (option string)) (field "time" (option string)) (field "datacontenttype" (option string))
      (field "dataschema" (option string)) (field "extensions" (list $extension-out))
      (field "data" (option (list u8)))))
    (export $event-out "event" (type $event-out'))
    (type $header-out' (record (field "name" string) (field "value" string)))
    (export $header-out "header" (type $header-out'))
    (type $output-out' (record (field "event" $event-out) (field "headers" (list $header-out))))
    (export $output-out "output" (type $output-out'))
    (type $verdict-out' (variant
      (case "replace" $output-out) (case "split" (list $output-out)) (case "drop" string) (case "keep")))
    (export $verdict-out "verdict" (type $verdict-out'))
    (export $failure-out "failure" (type $failure))
    (export "configure" (func $configure))
    (export "apply" (func $apply)
      (func (param "event" $event-out) (result (result $verdict-out (error $failure-out))))))
  (instance $handler (instantiate $names
    (with "value" (type $value)) (with "extension" (type $extension)) (with "event" (type $event))
    (with "header" (type $header)) (with "output" (type $output)) (with "verdict" (type $verdict))
    (with "failure" (type $failure)) (with "configure-it" (func $configure)) (with "apply-it" (func $apply))))
  (export "hookmill:transform/handler@0.1.0" (instance $handler)))"#;

/// The text of a component with something else in place of something in it.
fn honest_but(changes: &[(&str, &str)]) -> String {
    changes.iter().fold(HONEST.to_owned(), |text, (what, instead)| {
        assert!(text.contains(what), "no {what:?} in the component");
        text.replace(what, instead)
    })
}

fn binary(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// A component that does what it says.
pub fn honest() -> Vec<u8> {
    binary(HONEST)
}

/// The same `depth` components deep.
pub fn nested(depth: usize) -> Vec<u8> {
    let handler = "hookmill:transform/handler@0.1.0";
    let mut text = HONEST.replacen("(component", "(component $inner", 1);
    for level in (0..depth).rev() {
        let name = if level == 0 { "" } else { "$inner" };
        text = format!(
            "(component {name} {text} (instance $it (instantiate $inner)) (export \"{handler}\" (instance $it \"{handler}\")))"
        );
    }
    binary(&text)
}

/// Its handler takes an event with one attribute less.
pub fn other_event() -> Vec<u8> {
    binary(&honest_but(&[("(field \"source\" string) ", "")]))
}

/// Its handler answers with a verdict that has one case less.
pub fn other_verdict() -> Vec<u8> {
    binary(&honest_but(&[(" (case \"keep\")", "")]))
}

/// Its `configure` takes no settings.
pub fn other_arity() -> Vec<u8> {
    let taken = "(param \"settings\" string) ";
    binary(&honest_but(&[(taken, ""), ("(export \"configure\") (param i32 i32)", "(export \"configure\")")]))
}

/// What it calls the handler is a function.
pub fn handler_is_a_function() -> Vec<u8> {
    binary(
        r#"(component
      (core module $main (func (export "f")))
      (core instance $main (instantiate $main))
      (func $f (canon lift (core func $main "f")))
      (export "hookmill:transform/handler@0.1.0" (func $f)))"#,
    )
}

/// Says that its core function has the type of `apply`, which it hasn't. No tool makes this from text without noticing,
/// so it is for the validator to find.
pub fn core_function_of_another_type() -> Vec<u8> {
    binary(&honest_but(&[(
        "(func (export \"apply\") (param i32) (result i32)",
        "(func (export \"apply\") (param i64) (result i32)",
    )]))
}

/// `honest` with `count` more core instances of an empty module.
pub fn core_instances(count: usize) -> Vec<u8> {
    let mut more = String::from("(core instance $main (instantiate $main)) (core module $more)");
    for _ in 0..count {
        more.push_str(" (core instance (instantiate $more))");
    }
    binary(&honest_but(&[("(core instance $main (instantiate $main))", &more)]))
}

/// `honest` with `count` more core instances, each with `globals` globals, so that an instance is large without a memory.
pub fn fat_instances(count: usize, globals: usize) -> Vec<u8> {
    let mut more = String::from("(core instance $main (instantiate $main)) (core module $more");
    for _ in 0..globals {
        more.push_str(" (global (mut v128) (v128.const i64x2 1 1))");
    }
    more.push(')');
    for _ in 0..count {
        more.push_str(" (core instance (instantiate $more))");
    }
    binary(&honest_but(&[("(core instance $main (instantiate $main))", &more)]))
}

/// `honest` beside a component that holds two of the next, `depth` levels down: 2^depth instances in a few bytes.
pub fn doubling(depth: usize) -> Vec<u8> {
    let mut bomb = String::from("(component $twice (core module $m) (core instance (instantiate $m)))");
    for _ in 0..depth {
        bomb = format!(
            "(component $twice {bomb} (instance (instantiate $twice)) (instance (instantiate $twice)))"
        );
    }
    let first = "(component\n  (core module $main";
    let instead = format!("(component\n {bomb} (instance (instantiate $twice))\n  (core module $main");
    binary(&honest_but(&[(first, &instead)]))
}

/// `honest` with a type that holds two of the next, `depth` levels down.
pub fn doubling_type(depth: usize) -> Vec<u8> {
    let mut types = String::from("(component\n (type $t0 (tuple string string))");
    for level in 1..=depth {
        write!(types, " (type $t{level} (tuple $t{0} $t{0}))", level - 1)
            .expect("writing to memory does not fail");
    }
    let instead = format!("{types}\n  (core module $main");
    binary(&honest_but(&[("(component\n  (core module $main", &instead)]))
}

/// `honest` with a further definition at its beginning.
pub fn with_definition(definition: &str) -> Vec<u8> {
    let instead = format!("(component\n {definition}\n  (core module $main");
    binary(&honest_but(&[("(component\n  (core module $main", &instead)]))
}

/// A component that imports an interface with one function.
pub fn importing(interface: &str) -> Vec<u8> {
    let text = format!("(import \"{interface}\" (instance (export \"f\" (func))))");
    with_definition(&text)
}

/// `honest` with a section of `bytes` zeros that nobody reads.
pub fn with_custom_section(bytes: usize) -> Vec<u8> {
    let name = b"names";
    let content = [&[u8::try_from(name.len()).expect("a short name")], &name[..], &vec![0; bytes]].concat();
    [honest(), section(0, &content)].concat()
}

/// A component in a component in a component, `depth` times, with nothing in the last one.
pub fn deep(depth: usize) -> Vec<u8> {
    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";
    (0..depth).fold(EMPTY.to_vec(), |inner, _| [EMPTY, &section(4, &inner)].concat())
}

/// A section of a module or a component.
pub fn section(id: u8, content: &[u8]) -> Vec<u8> {
    let mut section = vec![id];
    let mut rest = content.len();
    while rest >= 0x80 {
        section.push(u8::try_from(rest & 0x7f).expect("seven bits") | 0x80);
        rest >>= 7;
    }
    section.push(u8::try_from(rest).expect("seven bits"));
    section.extend_from_slice(content);
    section
}
