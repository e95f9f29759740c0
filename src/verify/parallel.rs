//! Chunks judged on several threads, their runs told in the order of the file.

use std::{
    ops::Range,
    sync::{
        Mutex, PoisonError,
        mpsc::{Sender, SyncSender, channel, sync_channel},
    },
    thread,
};

use super::{
    Flow, Stop,
    chunk::{Run, Source},
};

/// How a file is divided among threads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Division {
    pub(super) threads: usize,
    pub(super) chunk_bytes: u64,
}

#[derive(Debug)]
pub(super) enum Told {
    Run(Run),
    /// All lines that start before this offset have been told.
    Through(u64),
}

/// What a thread hands over at a time. A healthy chunk fits into one; a hostile one waits for its turn with four of them.
const TOLD_AT_ONCE: usize = 64;
const WAITING: usize = 4;

impl Division {
    /// How many threads have something to do.
    pub(super) fn threads_for(self, range: &Range<u64>) -> u64 {
        let chunks = (range.end - range.start).div_ceil(self.chunk_bytes);
        chunks.min(self.threads as u64).max(1)
    }

    /// The chunks of one of `threads` threads: its own number, and every `threads`th from there on.
    pub(super) fn share(self, range: &Range<u64>, thread: u64, threads: u64) -> impl Iterator<Item = Range<u64>> + use<> {
        let Range { start, end } = *range;
        let chunk_at = move |number: u64| start.checked_add(self.chunk_bytes.checked_mul(number)?).filter(|start| *start < end);
        let numbers = std::iter::successors(Some(thread), move |number| number.checked_add(threads));
        numbers.map_while(chunk_at).map(move |start| start..start.saturating_add(self.chunk_bytes).min(end))
    }

    /// Judges the lines of a file and tells them in order, until `hear` fails.
    ///
    /// Whichever thread is free takes the next chunk, since no two cores are equally fast at all times. Each has a bounded channel of its own, and it
    /// is known who took which chunk, so going from channel to channel gives the order of the file, and nobody runs ahead by more than the channels
    /// hold.
    pub(super) fn judge(self, source: &Source<'_>, hear: &mut impl FnMut(Told) -> Flow) -> Flow {
        let threads = self.threads_for(&source.range);
        if threads == 1 {
            return judge_all(source, self.share(&source.range, 0, 1), hear);
        }
        let (taken, takers) = channel();
        let chunks = Chunks(Mutex::new(Untaken { chunks: self.share(&source.range, 0, 1), taken: Some(taken) }));
        thread::scope(|scope| {
            let shares = (0..threads).map(|_| sync_channel(WAITING)).enumerate().map(|(thread, (sender, receiver))| {
                let chunks = &chunks;
                scope.spawn(move || send_chunks(source, chunks, thread, &sender));
                receiver
            });
            let shares = shares.collect::<Vec<_>>();
            while let Some(share) = takers.recv().ok().and_then(|thread: usize| shares.get(thread)) {
                loop {
                    let Ok(told) = share.recv() else { return Ok(()) };
                    let told: Vec<Told> = told?;
                    let ends_chunk = matches!(told.last(), Some(Told::Through(_)));
                    told.into_iter().try_for_each(&mut *hear)?;
                    if ends_chunk {
                        break;
                    }
                }
            }
            Ok(())
        })
    }
}

/// The chunks of a file, to be taken one by one.
struct Chunks<I>(Mutex<Untaken<I>>);

struct Untaken<I> {
    chunks: I,
    /// Is told who takes a chunk; gone when the last one is taken.
    taken: Option<Sender<usize>>,
}

impl<I: Iterator<Item = Range<u64>>> Chunks<I> {
    fn take(&self, thread: usize) -> Option<Range<u64>> {
        let mut untaken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(chunk) = untaken.chunks.next() else {
            untaken.taken = None;
            return None;
        };
        // Told under the lock, so that it is told in the order of the file. If nobody listens any more, nobody will listen to the chunk either.
        untaken.taken.as_ref()?.send(thread).ok()?;
        Some(chunk)
    }
}

/// Judges one chunk after the other; a channel that the other side has closed ends it.
fn send_chunks<I: Iterator<Item = Range<u64>>>(source: &Source<'_>, chunks: &Chunks<I>, thread: usize, to: &SyncSender<Flow<Vec<Told>>>) {
    let mut ready = Vec::new();
    let judged = judge_all(source, std::iter::from_fn(|| chunks.take(thread)), &mut |told| {
        let ends_chunk = matches!(told, Told::Through(_));
        ready.push(told);
        if !ends_chunk && ready.len() < TOLD_AT_ONCE {
            return Ok(());
        }
        to.send(Ok(std::mem::take(&mut ready))).map_err(|_| Stop::Enough)
    });
    if let Err(stop) = judged {
        // Nobody listens any more, or this is the last thing to hear.
        let _ = to.send(Err(stop));
    }
}

fn judge_all(source: &Source<'_>, chunks: impl Iterator<Item = Range<u64>>, hear: &mut impl FnMut(Told) -> Flow) -> Flow {
    for chunk in chunks {
        source.judge(&chunk, &mut |run| hear(Told::Run(run)))?;
        hear(Told::Through(chunk.end))?;
    }
    Ok(())
}
