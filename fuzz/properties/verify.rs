//! What verifying says does not depend on how the work is divided.

use std::path::Path;

use untorn::{VerifyOptions, internals};

use super::{PATH, disk_with, file_of, is_compressed};

/// Several threads on chunks of any size report what one thread does on the whole file.
pub fn verify(bytes: &[u8]) {
    let [threads, chunk, limit, bytes @ ..] = bytes else { return };
    let file = file_of(bytes);
    if is_compressed(&file) {
        return;
    }
    let disk = disk_with(&file);
    let report = |threads, chunk| {
        let mut options = VerifyOptions::new();
        options.disk(&disk).threads(threads).line_bytes_max(40 + u64::from(*limit));
        format!("{:#?}", internals::verify_in_chunks(&mut options, Path::new(PATH), chunk).unwrap())
    };
    let (threads, chunk) = (1 + usize::from(*threads) % 4, 1 + u64::from(*chunk));
    assert_eq!(report(threads, chunk), report(1, u64::MAX), "{threads} threads, chunks of {chunk} bytes");
}
