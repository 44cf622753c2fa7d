//! Modules that are hard to compile: by their size, or by what a few bytes ask of a compiler.

use super::component::{honest, section};

const MODULE: &[u8] = b"\0asm\x01\0\0\0";
/// Bytes of one function in [`bulk`].
const FUNCTION_BYTES: usize = 64 << 10;

/// `honest` with `bytes` of code that nobody calls, in functions of a common size.
pub fn bulk(bytes: usize) -> Vec<u8> {
    // x = (x + 12345) / x, again and again, in one local. A division may trap, so a compiler can leave none of them out.
    let step = [0x20, 0, 0x41, 0xb9, 0xe0, 0, 0x6a, 0x20, 0, 0x6e, 0x22, 0, 0x1a];
    let body = [&[1, 1, 0x7f][..], &step.repeat(FUNCTION_BYTES / step.len()), &[0x0b]].concat();
    with_functions(&vec![body; bytes / FUNCTION_BYTES])
}

/// `honest` with one function of `depth` loops in one another around `locals` locals that all change: each loop has to
/// bring each local along, so that a compiler has the product of both to do.
pub fn loops(depth: usize, locals: u32) -> Vec<u8> {
    let mut body = vec![1];
    push_unsigned(&mut body, locals);
    body.push(0x7f);
    body.extend([0x03, 0x40].repeat(depth));
    for local in 0..locals {
        let mut index = Vec::new();
        push_unsigned(&mut index, local);
        body.extend([&[0x20][..], &index, &[0x41, 1, 0x6a, 0x21], &index].concat());
    }
    body.extend([0x20, 0, 0x0d, 0, 0x0b].repeat(depth));
    body.push(0x0b);
    with_functions(&[body])
}

fn with_functions(bodies: &[Vec<u8>]) -> Vec<u8> {
    let count = u32::try_from(bodies.len()).expect("few");
    let counted = |rest: &[u8]| {
        let mut content = Vec::new();
        push_unsigned(&mut content, count);
        [content, rest.to_vec()].concat()
    };
    let mut code = Vec::new();
    for body in bodies {
        push_unsigned(&mut code, u32::try_from(body.len()).expect("far below the largest function"));
        code.extend_from_slice(body);
    }
    let types = section(1, &[1, 0x60, 0, 0]);
    let functions = section(3, &counted(&vec![0; bodies.len()]));
    let module = [MODULE, &types, &functions, &section(10, &counted(&code))].concat();
    [honest(), section(1, &module)].concat()
}

fn push_unsigned(output: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        output.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    output.push((value & 0x7f) as u8);
}
