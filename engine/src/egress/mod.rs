//! The HTTP client and the rules of what it may reach.
