//! Renders an event as an HTTP request, signs and sends it, and classifies the answer.
