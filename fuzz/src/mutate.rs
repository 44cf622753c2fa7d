//! What is done to bytes.

use rand::RngExt as _;
use rand::rngs::StdRng;

/// Largest input that is made, in bytes.
const BYTES_MAX: usize = 256 << 10;

/// Values that stand at the edges of things.
const EDGES: [u8; 10] = [0, 1, 0x0b, 0x40, 0x60, 0x7f, 0x80, 0xfe, 0xff, 0x3f];

/// Lengths and counts that nothing has.
const LENGTHS: [&[u8]; 5] = [
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0x80, 0x80, 0x80, 0x80, 0x08],
    &[0x80, 0x80, 0x04],
    &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01],
    &[0x80, 0x00],
];

/// One of them.
pub fn pick<'a>(random: &mut StdRng, corpus: &'a [Vec<u8>]) -> &'a [u8] {
    if corpus.is_empty() { &[] } else { &corpus[random.random_range(0..corpus.len())] }
}

/// A few changes, anywhere.
pub fn bytes(random: &mut StdRng, input: &[u8], other: &[u8]) -> Vec<u8> {
    let mut output = input.to_vec();
    for _ in 0..random.random_range(1..=6) {
        change(random, &mut output, other);
    }
    output.truncate(BYTES_MAX);
    output
}

fn change(random: &mut StdRng, output: &mut Vec<u8>, other: &[u8]) {
    let at = random.random_range(0..=output.len());
    let end = (at + random.random_range(1..=32)).min(output.len());
    match random.random_range(0..10) {
        0..=2 if at < output.len() => output[at] = random.random(),
        3 if at < output.len() => output[at] ^= 1 << random.random_range(0..8),
        4 if at < output.len() => output[at] = EDGES[random.random_range(0..EDGES.len())],
        5 => {
            output.drain(at..end);
        }
        6 => {
            let copy = output[at..end].to_vec();
            output.splice(at..at, copy);
        }
        7 => {
            let length = LENGTHS[random.random_range(0..LENGTHS.len())];
            output.splice(at..at, length.iter().copied());
        }
        8 if !other.is_empty() => {
            let from = random.random_range(0..other.len());
            let until = (from + random.random_range(1..=256)).min(other.len());
            output.splice(at..end, other[from..until].iter().copied());
        }
        9 if random.random_range(0..8) == 0 => output.truncate(at),
        _ => output.insert(at, random.random()),
    }
}

/// The sections of a module or a component: their numbers and contents. None where they can't be told apart.
pub fn sections(input: &[u8]) -> Option<Vec<(u8, Vec<u8>)>> {
    let mut rest = input.get(8..)?;
    let mut sections = Vec::new();
    while let Some((&id, after)) = rest.split_first() {
        let (length, after) = unsigned(after)?;
        let content = after.get(..length)?;
        sections.push((id, content.to_vec()));
        rest = &after[length..];
    }
    Some(sections)
}

/// The same as bytes, after the eight that all begin with.
pub fn assemble(begin: &[u8], sections: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut output = begin[..8.min(begin.len())].to_vec();
    for (id, content) in sections {
        output.push(*id);
        push_unsigned(&mut output, content.len());
        output.extend_from_slice(content);
    }
    output
}

/// Changes within the sections of a module, whose lengths stay right: what lies behind is still found.
pub fn by_section(random: &mut StdRng, input: &[u8], other: &[u8]) -> Option<Vec<u8>> {
    let mut own = sections(input)?;
    for _ in 0..random.random_range(1..=3) {
        if own.is_empty() {
            break;
        }
        let at = random.random_range(0..own.len());
        match random.random_range(0..9) {
            0 => {
                own.remove(at);
            }
            1 => {
                let copy = own[at].clone();
                own.insert(random.random_range(0..=own.len()), copy);
            }
            2 => {
                let with = random.random_range(0..own.len());
                own.swap(at, with);
            }
            3 => {
                let others = sections(other)?;
                if !others.is_empty() {
                    let from = others[random.random_range(0..others.len())].clone();
                    own.insert(random.random_range(0..=own.len()), from);
                }
            }
            // A module or a component inside a component.
            4 | 5 if matches!(own[at].0, 1 | 4) && own[at].1.starts_with(b"\0asm") => {
                if let Some(inner) = by_section(random, &own[at].1, other) {
                    own[at].1 = inner;
                }
            }
            _ => own[at].1 = bytes(random, &own[at].1, other),
        }
    }
    let mut output = assemble(input, &own);
    output.truncate(BYTES_MAX);
    Some(output)
}

fn unsigned(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0_usize;
    for (at, byte) in bytes.iter().enumerate().take(5) {
        value |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[at + 1..]));
        }
    }
    None
}

/// The lowest seven bits.
fn seven(value: usize) -> u8 {
    u8::try_from(value & 0x7f).expect("they fit")
}

fn push_unsigned(output: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        output.push(seven(value) | 0x80);
        value >>= 7;
    }
    output.push(seven(value));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_come_apart_and_together() {
        let module = wat::parse_str("(module (func (export \"f\") (result i32) (i32.const 300)) (memory 1))");
        let module = module.expect("text");
        let sections = sections(&module).expect("its own sections");
        assert!(sections.len() >= 4);
        assert_eq!(assemble(&module, &sections), module);
        assert_eq!(super::sections(&module[..module.len() - 1]), None);
    }
}
