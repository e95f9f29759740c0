//! RFC 8259 syntax.
