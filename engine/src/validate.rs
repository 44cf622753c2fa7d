//! Checks events against the schemas of a pipeline.
