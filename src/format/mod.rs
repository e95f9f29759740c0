//! The bytes on disk.

pub(crate) mod json;
