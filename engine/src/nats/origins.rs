//! Where the messages of a source stream come from: its subjects, the streams that it mirrors or takes from, and theirs. A source
//! that gets what the engine itself stores would take it again without end.

use std::collections::BTreeSet;

use async_nats::jetstream::stream::{Config, Source};

use super::Nats;
use super::streams::StreamsError;
use crate::model::subject;

/// Streams that are looked at for one source.
const STREAMS_MAX: usize = 256;

/// What is known of the origin of a stream's messages.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Origins {
    /// Subjects on which messages come into it, straight or through the streams that it is filled from.
    pub subjects: Vec<String>,
    /// The way from the stream to one of the engine's own, if there is one, both ends named.
    pub own: Option<Vec<String>>,
}

impl Nats {
    /// Follows mirrors and sources of a stream as far as they lie in this account and domain.
    pub async fn origins(&self, stream: &str) -> Result<Origins, StreamsError> {
        let mut origins = Origins::default();
        let mut seen = BTreeSet::from([stream.to_owned()]);
        let mut ways = vec![vec![stream.to_owned()]];
        while let Some(way) = ways.pop() {
            let Some(last) = way.last() else { continue };
            if self.prefix().is_own_stream(last) {
                origins.own = Some(way);
                return Ok(origins);
            }
            let Some(info) = self.stream_info(last).await? else { continue };
            let Config { subjects, mirror, sources, .. } = info.config;
            origins.subjects.extend(subjects);
            for source in mirror.into_iter().chain(sources.unwrap_or_default()) {
                if !is_here(&source) {
                    if self.prefix().is_own_stream(&source.name) {
                        tracing::warn!(
                            stream = last,
                            from = source.name,
                            "a source is filled from a stream of an engine's own in another domain or account; if that engine is fed from here, events go round without end"
                        );
                    }
                    continue;
                }
                let made = source.subject_transforms.iter().map(|made| any_token(&made.destination));
                origins.subjects.extend(made);
                if seen.len() < STREAMS_MAX && seen.insert(source.name.clone()) {
                    ways.push([&way[..], &[source.name]].concat());
                }
            }
        }
        origins.own = self.republished(stream, &origins.subjects).await?;
        Ok(origins)
    }

    /// The way over a stream of the engine's own that says again on other subjects what is stored in it.
    async fn republished(
        &self,
        stream: &str,
        subjects: &[String],
    ) -> Result<Option<Vec<String>>, StreamsError> {
        for own in self.prefix().own_streams() {
            let Some(info) = self.stream_info(&own).await? else { continue };
            let Some(republish) = info.config.republish else { continue };
            let said = any_token(&republish.destination);
            if subjects.iter().any(|subject| subject::overlap(subject, &said)) {
                return Ok(Some(vec![stream.to_owned(), own]));
            }
        }
        Ok(None)
    }
}

/// Whether the stream that is meant lies in this account and domain.
fn is_here(source: &Source) -> bool {
    source.external.is_none() && source.domain.is_none()
}

/// A destination with `*` for what is filled in.
fn any_token(destination: &str) -> String {
    let filled = |token: &str| token.contains("{{") || token.starts_with('$');
    let tokens = destination.split('.').map(|token| if filled(token) { "*" } else { token });
    tokens.collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_filled_in_may_be_anything() {
        assert_eq!(any_token("copy.{{wildcard(1)}}.>"), "copy.*.>");
        assert_eq!(any_token("copy.$1.x"), "copy.*.x");
        assert_eq!(any_token("plain.x"), "plain.x");
    }
}
