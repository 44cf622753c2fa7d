//! What engine and compiler say to one another: a frame each way, the module's bytes behind the one, the native code
//! behind the other. A frame is its length as four bytes, little-endian, then JSON.

use std::io::{self, Read, Write};
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::super::errors::ModuleError;
use super::work::{Facts, Made};

/// Longest frame, in bytes. Metadata of the largest size fits, be each byte of it written as six.
const FRAME_BYTES_MAX: u32 = 2 << 20;

/// What the engine asks for. The module's bytes follow; then the engine keeps the pipe open as long as it wants an
/// answer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    /// What the module goes by in errors.
    pub(super) name: String,
    /// How many bytes follow.
    pub(super) module_bytes: u64,
    /// Longest time of the processor, in seconds.
    pub(super) cpu_seconds: u64,
    /// Most memory, in bytes.
    pub(super) memory_bytes: u64,
    /// The engine's key of native code: a compiler of another version is of no use.
    pub(super) key: String,
    /// An empty folder to work in. The engine removes it.
    pub(super) folder: PathBuf,
}

/// What the compiler says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// What was made follows.
    Compiled { facts: Facts, made: Made },
    /// The module is none that can be used.
    Refused(ModuleError),
    /// `memory_bytes` are not enough.
    OutOfMemory,
    /// Native code can't be written.
    Unwritten(String),
    /// This program makes native code under another key.
    OtherKey,
    /// The compiler has met a bug of its own, or can't set its limits.
    Broken(String),
}

/// A frame as bytes.
pub(super) fn frame(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(message)?;
    let length = u32::try_from(json.len()).ok().filter(|length| *length <= FRAME_BYTES_MAX);
    let length = length.ok_or(io::ErrorKind::FileTooLarge)?;
    Ok([length.to_le_bytes().as_slice(), &json].concat())
}

/// How long a frame is whose first four bytes are these.
pub(super) fn length(prefix: [u8; 4]) -> io::Result<usize> {
    let length = u32::from_le_bytes(prefix);
    if length > FRAME_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is too long"));
    }
    Ok(length as usize)
}

/// Reads a frame.
pub(super) fn read<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<T> {
    let mut prefix = [0; 4];
    from.read_exact(&mut prefix)?;
    let mut json = vec![0; length(prefix)?];
    from.read_exact(&mut json)?;
    Ok(serde_json::from_slice(&json)?)
}

/// Writes a frame.
pub(super) fn write(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    to.write_all(&frame(message)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_comes_through_as_it_was() {
        let name = "m".to_owned();
        let errors = [
            ModuleError::TooLarge { name: name.clone(), bytes: 2, max: 1 },
            ModuleError::NotWasm { name: name.clone(), found: "the file is empty".to_owned() },
            ModuleError::Imports {
                name: name.clone(),
                imports: vec!["wasi:http/types@0.2.0".to_owned()],
                hint: "build it otherwise".to_owned(),
            },
            ModuleError::Encode { name, problem: "p".to_owned(), hint: "; h".to_owned() },
        ];
        for error in errors {
            let text = error.to_string();
            let bytes = frame(&Answer::Refused(error)).unwrap();
            let Answer::Refused(back) = read(&mut bytes.as_slice()).unwrap() else { panic!("no refusal") };
            assert_eq!(back.to_string(), text);
        }
    }

    #[test]
    fn what_is_cut_or_too_long_is_no_frame() {
        let bytes = frame(&Answer::OutOfMemory).unwrap();
        for end in 0..bytes.len() {
            assert!(read::<Answer>(&mut &bytes[..end]).is_err(), "{end} bytes");
        }
        let long = [(FRAME_BYTES_MAX + 1).to_le_bytes().as_slice(), &[b' '; 16]].concat();
        assert_eq!(read::<Answer>(&mut long.as_slice()).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(frame(&Answer::Broken("x".repeat(FRAME_BYTES_MAX as usize))).is_err());
    }
}
