//! How long each test goes on, and what could not run.

use std::sync::atomic::{AtomicUsize, Ordering};

/// What the bounded lane takes, or the long one, which `UNTORN_LONG` asks for.
pub(crate) fn pick<T>(bounded: T, long: T) -> T {
    if std::env::var_os("UNTORN_LONG").is_some() { long } else { bounded }
}

/// Says that something could not be tried here, and why.
pub(crate) fn skip(what: &str, why: &str) {
    static SKIPPED: AtomicUsize = AtomicUsize::new(0);
    println!("skipped: {what}: {why} ({} so far)", SKIPPED.fetch_add(1, Ordering::Relaxed) + 1);
}
