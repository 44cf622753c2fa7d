//! An event as the body and the headers of a request.

use super::Format;
use crate::model::{Event, Finished};

/// Media type of structured mode (`CloudEvents` JSON format, section 3).
const STRUCTURED: &str = "application/cloudevents+json";

/// What is sent for `event`, with the headers that steps have set; nothing that belongs to a moment or to the settings.
pub(super) fn render(format: Format, event: &Event, http: &[(String, String)]) -> Finished {
    let (content_type, mut headers, body) = match format {
        Format::Structured => (Some(STRUCTURED.to_owned()), Vec::new(), event.to_structured()),
        Format::Binary => event.to_http_binary(),
        Format::Data => {
            let (content_type, _, body) = event.to_http_binary();
            (content_type, Vec::new(), body)
        }
    };
    headers.extend_from_slice(http);
    Finished { content_type, headers, body }
}
