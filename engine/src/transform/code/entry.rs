//! A file of native code: the code, the component that was made of a core module, a label that says whose it is, and at
//! the end a hash over all of it, so that a torn or changed file is told from a whole one.
//!
//! ```text
//! code and component │ label as JSON │ length of both: 8 │ length of the label: 4 │ SHA-256 over all before: 32 │ magic: 8
//! ```

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::super::compile::{Facts, Made};

const MAGIC: &[u8; 8] = b"hookmil1";

/// Length of everything behind the label.
const TAIL_BYTES: u64 = 8 + 4 + 32 + 8;

/// Most bytes of a label.
const LABEL_BYTES_MAX: u64 = 4 << 20;

/// Whose code it is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Label {
    /// Of the module.
    pub(super) digest: Arc<str>,
    /// For whom it was compiled.
    pub(super) key: String,
    pub(super) facts: Facts,
    pub(super) made: Made,
}

/// Finishes a file that holds code and component of these lengths. It isn't made durable: what a crash of the system takes
/// away or tears is compiled again, and waiting for the disk would hold up whoever else writes to it, such as nats-server.
pub(super) fn seal(file: &mut File, label: &Label) -> io::Result<()> {
    let code_bytes = label.made.bytes();
    let label = serde_json::to_vec(label)?;
    let label_bytes = u32::try_from(label.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
    file.seek(SeekFrom::Start(code_bytes))?;
    file.write_all(&[&label[..], &code_bytes.to_le_bytes(), &label_bytes.to_le_bytes()].concat())?;
    let hashed = file.stream_position()?;
    let hash = hash(file, hashed)?;
    file.write_all(&[&hash[..], MAGIC].concat())
}

/// The label of a whole file; nothing if it is torn, changed, or none of ours.
pub(super) fn open(file: &mut File) -> io::Result<Option<Label>> {
    let length = file.metadata()?.len();
    let Some(before_tail) = length.checked_sub(TAIL_BYTES) else { return Ok(None) };
    file.seek(SeekFrom::Start(before_tail))?;
    let (mut code_bytes, mut label_bytes, mut kept, mut magic) = ([0; 8], [0; 4], [0; 32], [0; 8]);
    for part in [&mut code_bytes[..], &mut label_bytes, &mut kept, &mut magic] {
        file.read_exact(part)?;
    }
    let (code_bytes, label_bytes) = (u64::from_le_bytes(code_bytes), u32::from_le_bytes(label_bytes).into());
    if &magic != MAGIC
        || label_bytes > LABEL_BYTES_MAX
        || code_bytes.checked_add(label_bytes) != Some(before_tail)
    {
        return Ok(None);
    }
    if hash(file, before_tail + 12)?[..] != kept {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(code_bytes))?;
    let mut label = Vec::new();
    file.take(label_bytes).read_to_end(&mut label)?;
    let label: Option<Label> = serde_json::from_slice(&label).ok();
    Ok(label.filter(|label| label.made.bytes() == code_bytes))
}

/// SHA-256 over the first `length` bytes; leaves the file behind them.
fn hash(file: &mut File, length: u64) -> io::Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    let mut piece = vec![0; 256 << 10];
    let mut left = length;
    file.seek(SeekFrom::Start(0))?;
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
        file.read_exact(&mut piece[..wanted])?;
        hasher.update(&piece[..wanted]);
        left -= wanted as u64;
    }
    Ok(hasher.finalize().into())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn label() -> Label {
        let compile_time = Duration::from_millis(7);
        let facts = Facts { imports: vec!["a".into()], exports: vec![], compile_time, metadata: None };
        let made = Made { entry: "a/b".into(), code_bytes: 0, component_bytes: None };
        Label { digest: "sha256:0".into(), key: "k".into(), facts, made }
    }

    fn label_of(code: &[u8]) -> Label {
        Label { made: Made { code_bytes: code.len() as u64, ..label().made }, ..label() }
    }

    fn sealed(code: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(code).unwrap();
        seal(&mut file, &label_of(code)).unwrap();
        file
    }

    fn bytes(file: &mut File) -> Vec<u8> {
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn reopened(bytes: &[u8]) -> Option<Label> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        open(&mut file).unwrap()
    }

    #[test]
    fn a_whole_file_tells_its_label() {
        for code in [vec![], b"code".to_vec(), vec![7; 600_000]] {
            let mut file = sealed(&code);
            assert_eq!(open(&mut file).unwrap(), Some(label_of(&code)));
            assert!(bytes(&mut file).starts_with(&code));
        }
    }

    #[test]
    fn a_torn_file_is_none_wherever_it_is_torn() {
        let whole = bytes(&mut sealed(b"some native code"));
        for length in 0..whole.len() {
            assert_eq!(reopened(&whole[..length]), None, "{length} of {} bytes", whole.len());
            assert_eq!(reopened(&whole[length + 1..]), None, "without the first {}", length + 1);
        }
    }

    #[test]
    fn a_file_with_one_changed_byte_is_none() {
        let whole = bytes(&mut sealed(b"some native code"));
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert_eq!(reopened(&changed), None, "byte {at}");
        }
        assert_eq!(reopened(&[whole, vec![0]].concat()), None);
    }
}
