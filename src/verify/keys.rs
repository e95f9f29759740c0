//! How the healthy lines of a file begin: gathered only when a corrupt line asks for it, in a pass of its own over the whole file.

use std::{io, ops::Range, thread};

use super::{chunk::Source, parallel::Division};
use crate::{
    format::{line::Framed, verdict::Judged},
    salvage::FirstKeys,
};

pub(super) fn gather(source: &Source<'_>, division: Division) -> io::Result<FirstKeys> {
    let threads = division.threads_for(&source.range);
    thread::scope(|scope| {
        let shares = (0..threads).map(|thread| scope.spawn(move || share(source, division, thread, threads)));
        let mut keys = FirstKeys::default();
        for share in shares.collect::<Vec<_>>() {
            keys.join(share.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(keys)
    })
}

fn share(source: &Source<'_>, division: Division, thread: u64, threads: u64) -> io::Result<FirstKeys> {
    let mut keys = FirstKeys::default();
    for chunk in division.share(&source.range, thread, threads) {
        learn(source, &chunk, &mut keys)?;
    }
    Ok(keys)
}

fn learn(source: &Source<'_>, chunk: &Range<u64>, keys: &mut FirstKeys) -> io::Result<()> {
    let Some(mut lines) = source.lines_of(chunk)? else { return Ok(()) };
    while lines.offset() < chunk.end
        && let Some(span) = lines.next(source.file)?
    {
        let framed = Framed::new(lines.bytes(), span.start == 0);
        if span.terminated && matches!(Judged::of(&framed), Judged::Sealed(_) | Judged::Plain(_)) {
            keys.learn(framed.payload());
        }
    }
    Ok(())
}
