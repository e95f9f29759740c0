//! Bugs put in on purpose, to see that the tests notice: `tests/crash/bites`.
//!
//! They are there only in a build with `--cfg seeded`, one at a time, named by `UNTORN_SEEDED`. In any other build the compiler drops them.

/// Whether this bug is on.
#[cfg(not(seeded))]
pub(crate) const fn bug(_: &str) -> bool {
    false
}

/// Whether this bug is on.
#[cfg(seeded)]
pub(crate) fn bug(name: &str) -> bool {
    static SEEDED: std::sync::LazyLock<Option<String>> = std::sync::LazyLock::new(|| std::env::var("UNTORN_SEEDED").ok());
    SEEDED.as_deref() == Some(name)
}
