//! Dead letters that fit into no message: what they hold is kept in parts beside them, and put together where it is needed.
//!
//! The parts are stored first, each on a subject of its own below that of its letter, where no list of letters looks. The
//! letter comes last and names them. So a letter never lacks its parts; parts without a letter (a process that died between
//! the two) only take room until they age out.

use std::fmt;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::store::header_lines;
use super::tasks::Encoded;

/// The header of a letter that is kept in parts: how many, their id, bytes in all, and the SHA-256 of all bytes.
pub const PARTS: &str = "Hookmill-Parts";
/// Most bytes of what is kept in parts: the largest message that a server can be told to take (64 MiB), encoded.
const BYTES_MAX: usize = 256 * 1024 * 1024;
/// The first line of headers in a NATS message.
const HEAD: &[u8] = b"NATS/1.0\r\n";
/// What ends them.
const END: &[u8] = b"\r\n\r\n";

/// Where the parts of a letter are, and what they have to be together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parts {
    /// How many there are.
    pub count: usize,
    /// What tells them from those of others.
    pub id: String,
    /// Bytes of all of them.
    pub bytes: usize,
    /// SHA-256 of all of them, 64 hex digits.
    pub sha256: String,
}

/// Why parts are not what was stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PartsError {
    /// One is not there.
    #[error(
        "part {part} of {count} is not there any more: it has aged out, or was removed; publish the event again"
    )]
    Missing {
        /// Which one, from 1.
        part: usize,
        /// Of how many.
        count: usize,
    },
    /// They are there, but others.
    #[error("its parts are not what was stored (their SHA-256 differs); publish the event again")]
    Changed,
}

impl Parts {
    /// What a message is as parts of at most `room` bytes, and their bytes.
    pub fn split((headers, body): &Encoded, id: String, room: usize) -> (Self, Vec<Bytes>) {
        let mut all = HEAD.to_vec();
        for (name, value) in headers {
            all.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        all.extend_from_slice(b"\r\n");
        all.extend_from_slice(body);
        let all = Bytes::from(all);
        let room = room.max(1);
        let parts: Vec<_> =
            (0..all.len()).step_by(room).map(|from| all.slice(from..all.len().min(from + room))).collect();
        let sha256 = data_encoding::HEXLOWER.encode(&Sha256::digest(&all));
        (Self { count: parts.len(), id, bytes: all.len(), sha256 }, parts)
    }

    /// What the parts were split from.
    pub fn join(&self, parts: &[Bytes]) -> Result<Encoded, PartsError> {
        let all = Bytes::from(parts.concat());
        let same = data_encoding::HEXLOWER.encode(&Sha256::digest(&all)) == self.sha256;
        let end = all.windows(END.len()).position(|window| window == END).filter(|_| same);
        let end = end.ok_or(PartsError::Changed)? + END.len();
        Ok((header_lines(&all[..end]), all.slice(end..)))
    }

    /// The parts that a letter names, if it does; at most so much as a server's largest message can become.
    pub fn of(headers: &[(String, String)]) -> Option<Self> {
        let (_, value) = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(PARTS))?;
        let mut words = value.split(' ');
        let mut word = || words.next();
        let (count, id, bytes) = (word()?.parse().ok()?, word()?.to_owned(), word()?.parse().ok()?);
        let is_token = id.len() <= 32 && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let bounded = count <= bytes && bytes <= BYTES_MAX;
        (is_token && bounded).then_some(Self { count, id, bytes, sha256: word()?.to_owned() })
    }
}

impl fmt::Display for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.count, self.id, self.bytes, self.sha256)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded() -> Encoded {
        let headers =
            vec![("Hookmill-Task".to_owned(), "1".to_owned()), ("A".to_owned(), "b%20c".to_owned())];
        (headers, Bytes::from_static(b"x\r\n\r\ny\0\xff"))
    }

    #[test]
    fn what_is_kept_in_parts_is_put_together_again() {
        for room in [1, 7, 30, 10_000] {
            let (parts, bytes) = Parts::split(&encoded(), "ab12".to_owned(), room);
            assert!(bytes.iter().all(|part| part.len() <= room && !part.is_empty()));
            let named = Parts::of(&[(PARTS.to_owned(), parts.to_string())]).unwrap();
            assert_eq!(named, parts);
            assert_eq!((named.count, named.join(&bytes)), (bytes.len(), Ok(encoded())));
        }
    }

    #[test]
    fn other_bytes_are_no_parts_of_it() {
        let (parts, mut bytes) = Parts::split(&encoded(), "ab12".to_owned(), 8);
        bytes[1] = Bytes::from_static(b"12345678");
        assert_eq!(parts.join(&bytes), Err(PartsError::Changed));
        assert_eq!(parts.join(&bytes[1..]), Err(PartsError::Changed));
        for broken in ["", "2", "2 id", "x id 3 00", "2 a.b 3 00"] {
            assert_eq!(Parts::of(&[(PARTS.to_owned(), broken.to_owned())]), None, "{broken}");
        }
    }
}
