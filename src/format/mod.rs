//! The bytes on disk.

#[allow(
    dead_code,
    reason = "the modules that read and write lines are its users"
)]
pub(crate) mod json;
