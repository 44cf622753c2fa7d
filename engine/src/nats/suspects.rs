//! Records of messages that may have ended an engine.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::Registry;
use super::registry::RegistryError;
use crate::model::SourceRef;

impl Registry {
    /// How often this message was started as a suspect.
    pub async fn suspect_starts(&self, message: &SourceRef) -> Result<u32, RegistryError> {
        Ok(self.get(&suspect_key(message)).await?.unwrap_or(0))
    }

    /// Notes that it is being started for the `starts`th time.
    pub async fn put_suspect_starts(&self, message: &SourceRef, starts: u32) -> Result<(), RegistryError> {
        self.put(&suspect_key(message), &starts).await
    }

    /// Forgets a suspect that was settled.
    pub async fn clear_suspect(&self, message: &SourceRef) -> Result<(), RegistryError> {
        self.clear(suspect_key(message)).await
    }
}

fn suspect_key(message: &SourceRef) -> String {
    let mut hash = Sha256::new();
    hash.update(message.stream.as_bytes());
    hash.update([0]);
    hash.update(message.sequence.to_be_bytes());
    hash.update(message.time.unix_nanos().to_be_bytes());
    let mut key = String::from("suspect.");
    for byte in &hash.finalize()[..16] {
        let _ = write!(key, "{byte:02x}");
    }
    key
}
