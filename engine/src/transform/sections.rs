//! The custom section of a module: found in a core module, in a component, or in a core module inside a component;
//! put into either. Only the frame of sections is read here, so that other parts of a file can't be in the way.

use std::ops::Range;

use wasm_encoder::{CustomSection, Section as _};
use wasmparser::BinaryReader;

/// Levels of components inside components that are looked into.
const DEPTH_MAX: u32 = 8;

/// Bytes of the preamble: magic, version, layer.
const PREAMBLE_BYTES: usize = 8;

const CUSTOM: u8 = 0;
/// In a component.
const CORE_MODULE: u8 = 1;
/// In a component.
const COMPONENT: u8 = 4;

/// Why a section can't be found.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum SectionError {
    #[error("the file is no WebAssembly")]
    NotWasm,
    #[error("the file is torn: {0}")]
    Torn(String),
    #[error("there are two of them")]
    Twice,
}

struct Section<'a> {
    id: u8,
    body: &'a [u8],
    /// Header and body.
    whole: Range<usize>,
}

/// What the section called `name` holds. One of the file itself counts before those of what is inside it.
pub(super) fn find<'a>(bytes: &'a [u8], name: &str) -> Result<Option<&'a [u8]>, SectionError> {
    find_below(bytes, name, 0)
}

fn find_below<'a>(bytes: &'a [u8], name: &str, depth: u32) -> Result<Option<&'a [u8]>, SectionError> {
    let is_component = is_component(bytes)?;
    let (mut own, mut inner) = (None, None);
    for section in sections(bytes) {
        let section = section?;
        match section.id {
            CUSTOM => {
                if let Some(data) = data_of(section.body, name)?
                    && own.replace(data).is_some()
                {
                    return Err(SectionError::Twice);
                }
            }
            CORE_MODULE | COMPONENT if is_component && depth < DEPTH_MAX => {
                if let Some(data) = find_below(section.body, name, depth + 1)?
                    && inner.replace(data).is_some()
                {
                    return Err(SectionError::Twice);
                }
            }
            _ => {}
        }
    }
    Ok(own.or(inner))
}

/// The file with this section at its end, in place of one of the same name.
pub(super) fn put(bytes: &[u8], name: &str, data: &[u8]) -> Result<Vec<u8>, SectionError> {
    is_component(bytes)?;
    let mut new = bytes[..PREAMBLE_BYTES].to_vec();
    for section in sections(bytes) {
        let section = section?;
        if section.id != CUSTOM || data_of(section.body, name)?.is_none() {
            new.extend_from_slice(&bytes[section.whole]);
        }
    }
    CustomSection { name: name.into(), data: data.into() }.append_to(&mut new);
    Ok(new)
}

fn is_component(bytes: &[u8]) -> Result<bool, SectionError> {
    match bytes.get(..PREAMBLE_BYTES) {
        Some(b"\0asm\x01\0\0\0") => Ok(false),
        Some(b"\0asm\x0d\0\x01\0") => Ok(true),
        _ => Err(SectionError::NotWasm),
    }
}

/// The sections one after the other; the last may be an error.
fn sections(bytes: &[u8]) -> impl Iterator<Item = Result<Section<'_>, SectionError>> {
    let mut reader = BinaryReader::new(&bytes[PREAMBLE_BYTES..], 0);
    let mut failed = false;
    std::iter::from_fn(move || {
        if failed || reader.eof() {
            return None;
        }
        let start = bytes.len() - reader.bytes_remaining();
        let read = |reader: &mut BinaryReader<'_>| -> wasmparser::Result<(u8, Range<usize>)> {
            let id = reader.read_u8()?;
            let len = reader.read_var_u32()? as usize;
            let at = bytes.len() - reader.bytes_remaining();
            reader.read_bytes(len)?;
            Ok((id, at..at + len))
        };
        let section =
            read(&mut reader).map(|(id, body)| Section { id, whole: start..body.end, body: &bytes[body] });
        failed = section.is_err();
        Some(section.map_err(|error| SectionError::Torn(error.to_string())))
    })
}

/// What a custom section holds, if it has this name.
fn data_of<'a>(body: &'a [u8], name: &str) -> Result<Option<&'a [u8]>, SectionError> {
    let mut reader = BinaryReader::new(body, 0);
    let found = reader.read_string().map_err(|error| SectionError::Torn(error.to_string()))?;
    Ok((found == name).then(|| &body[body.len() - reader.bytes_remaining()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "hookmill:metadata";

    fn wasm(text: &str) -> Vec<u8> {
        wat::parse_str(text).unwrap()
    }

    #[test]
    fn a_section_is_found_where_it_may_be() {
        for (text, found) in [
            ("(module)", None),
            (r#"(module (@custom "other" "x") (@custom "hookmill:metadata" "{}"))"#, Some("{}")),
            (r#"(component (@custom "hookmill:metadata" "{}"))"#, Some("{}")),
            (
                r#"(component (core module (@custom "hookmill:metadata" "a") (func)) (core module))"#,
                Some("a"),
            ),
            (
                r#"(component (core module (@custom "hookmill:metadata" "a")) (@custom "hookmill:metadata" "b"))"#,
                Some("b"),
            ),
            (r#"(component (component (core module (@custom "hookmill:metadata" "c"))))"#, Some("c")),
        ] {
            assert_eq!(find(&wasm(text), NAME), Ok(found.map(str::as_bytes)), "{text}");
        }
    }

    #[test]
    fn two_sections_are_one_too_many() {
        for text in [
            r#"(module (@custom "hookmill:metadata" "a") (@custom "hookmill:metadata" "b"))"#,
            r#"(component (core module (@custom "hookmill:metadata" "a")) (core module (@custom "hookmill:metadata" "b")))"#,
        ] {
            assert_eq!(find(&wasm(text), NAME), Err(SectionError::Twice), "{text}");
        }
    }

    #[test]
    fn a_section_is_replaced_and_all_else_stays() {
        let plain = wasm(r#"(module (@custom "other" "x") (func (export "f")))"#);
        let one = put(&plain, NAME, b"one").unwrap();
        assert_eq!(find(&one, NAME), Ok(Some(&b"one"[..])));
        assert!(one.starts_with(&plain));
        let two = put(&one, NAME, b"two").unwrap();
        assert_eq!(find(&two, NAME), Ok(Some(&b"two"[..])));
        assert_eq!(two.len(), one.len());
        wasmparser::validate(&two).unwrap();
        let component = put(&wasm("(component (core module))"), NAME, b"one").unwrap();
        wasmparser::validate(&component).unwrap();
        assert_eq!(find(&component, NAME), Ok(Some(&b"one"[..])));
    }

    #[test]
    fn torn_files_are_refused_wherever_they_end() {
        let whole = put(&wasm("(component (core module (func)))"), NAME, &[b'x'; 200]).unwrap();
        let mut torn = 0;
        for end in 0..whole.len() {
            torn += u32::from(matches!(find(&whole[..end], NAME), Err(SectionError::Torn(_))));
        }
        assert!(torn > 200, "{torn}");
        assert_eq!(find(b"", NAME), Err(SectionError::NotWasm));
        assert_eq!(put(b"#!/bin/sh", NAME, b""), Err(SectionError::NotWasm));
        // Far more than there is.
        assert!(matches!(find(b"\0asm\x01\0\0\0\0\xff\xff\xff\xff\x0f", NAME), Err(SectionError::Torn(_))));
    }
}
