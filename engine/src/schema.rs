//! JSON Schema: compiling and checking.
