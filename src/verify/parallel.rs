//! Chunks judged on several threads, their runs told in the order of the file.

use std::{
    ops::Range,
    sync::mpsc::{SyncSender, sync_channel},
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
    /// Thread `t` of `n` judges the chunks `t`, `t + n`, and so on, and has a bounded channel of its own, so taking turns at the channels gives the
    /// order of the file, and nobody runs ahead by more than the channels hold.
    pub(super) fn judge(self, source: &Source<'_>, hear: &mut impl FnMut(Told) -> Flow) -> Flow {
        let threads = self.threads_for(&source.range);
        if threads == 1 {
            return judge_all(source, self.share(&source.range, 0, 1), hear);
        }
        thread::scope(|scope| {
            let shares = (0..threads).map(|thread| {
                let (sender, receiver) = sync_channel(WAITING);
                scope.spawn(move || self.send_share(source, thread, threads, &sender));
                receiver
            });
            let shares = shares.collect::<Vec<_>>();
            for share in shares.iter().cycle() {
                // A share that is over closes its channel, and all shares behind it are over too.
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

    /// A channel that the other side has closed ends the share.
    fn send_share(self, source: &Source<'_>, thread: u64, threads: u64, to: &SyncSender<Flow<Vec<Told>>>) {
        let mut ready = Vec::new();
        let chunks = self.share(&source.range, thread, threads);
        let judged = judge_all(source, chunks, &mut |told| {
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
}

fn judge_all(source: &Source<'_>, chunks: impl Iterator<Item = Range<u64>>, hear: &mut impl FnMut(Told) -> Flow) -> Flow {
    for chunk in chunks {
        source.judge(&chunk, &mut |run| hear(Told::Run(run)))?;
        hear(Told::Through(chunk.end))?;
    }
    Ok(())
}
