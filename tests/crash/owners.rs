//! Whose each byte of a journal is: ours, or that of somebody who takes no lock.
//!
//! It is replayed from the calls that the library made and from what the strangers wrote between them. Each byte of theirs that a call of ours cuts
//! has to be durable in the quarantine at that moment. One case is let pass, and counted: what was written after the last look at the journal, right
//! before the cut, because no system call cuts "only if nobody wrote".

use std::{
    collections::HashMap,
    ops::Range,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use untorn::sim::{How, Op, OpKind, OpMatch, Outcome, RawFile, SimDisk};

use crate::quarantine;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Us,
    Stranger,
}

/// What a stranger wrote right before a call.
struct Piece {
    call: usize,
    range: Range<usize>,
}

/// The journal, and the durable quarantine, right before a call that cuts.
type Moment = (Vec<u8>, Vec<u8>);

/// Looks on while a journal is written.
pub(crate) struct Owners {
    disk: SimDisk,
    path: PathBuf,
    len_at_first: usize,
    pieces: Arc<Mutex<Vec<Piece>>>,
    cuts: Arc<Mutex<HashMap<usize, Moment>>>,
    is_over: Arc<AtomicBool>,
}

/// More than a run makes.
const CUTS_MAX: usize = 24;

impl Owners {
    /// What is in the journal by now is a stranger's. Right before each of these calls one writes more, with the file that it has `open` all the time,
    /// or with one that it opens.
    pub(crate) fn watch(disk: &SimDisk, path: &str, strangers: &[(usize, Vec<u8>)], open: Option<RawFile>) -> Owners {
        let owners = Owners {
            disk: disk.clone(),
            path: path.into(),
            len_at_first: disk.read_file(path).unwrap().len(),
            pieces: Arc::default(),
            cuts: Arc::default(),
            is_over: Arc::default(),
        };
        let open = open.map(Arc::new);
        for (call, bytes) in strangers.iter().cloned() {
            let (pieces, is_over, open, path) = (owners.pieces.clone(), owners.is_over.clone(), open.clone(), owners.path.clone());
            disk.before(OpMatch::nth(call), move |disk| {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                let start = disk.read_file(&path).unwrap().len();
                open.map_or_else(|| disk.append_raw(&path, &bytes), |file| file.append(&bytes)).unwrap();
                pieces.lock().unwrap().push(Piece { call, range: start..start + bytes.len() });
            });
        }
        // The hooks of one call run in the order in which they were set: a cut is looked at when the strangers have written.
        for nth in 0..CUTS_MAX {
            let (cuts, path, quarantine) = (owners.cuts.clone(), owners.path.clone(), format!("{path}.quarantine"));
            disk.before(OpMatch::nth_of(OpKind::Cut, nth).on(path.clone()), move |disk| {
                let moment = (disk.read_file(path).unwrap(), disk.durable_file(quarantine).unwrap_or_default());
                cuts.lock().unwrap().insert(disk.ops() - 1, moment);
            });
        }
        owners
    }

    /// No stranger writes any more.
    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::SeqCst);
    }

    /// How often a stranger wrote.
    pub(crate) fn pieces(&self) -> usize {
        self.pieces.lock().unwrap().len()
    }

    /// Whose each byte is by now, and how many bytes of strangers were lost in the moment that nobody can close.
    pub(crate) fn settle(&self, faults: &[(usize, How)]) -> Result<(Vec<Owner>, usize), String> {
        let (log, pieces, cuts) = (self.disk.log(), self.pieces.lock().unwrap(), self.cuts.lock().unwrap());
        let mut owners = vec![Owner::Stranger; self.len_at_first];
        let mut lost = 0;
        let mut next = pieces.iter().peekable();
        for (call, op) in log.iter().enumerate() {
            while let Some(piece) = next.next_if(|piece| piece.call == call) {
                same(piece.range.start, owners.len(), call)?;
                owners.resize(piece.range.end, Owner::Stranger);
            }
            match (op.kind, &op.moved, op.offset) {
                _ if op.path != self.path => {}
                (OpKind::Write, Some(moved), _) if moved.start < moved.end => {
                    same(moved.start as usize, owners.len(), call)?;
                    owners.resize(moved.end as usize, Owner::Us);
                }
                (OpKind::WriteAt, Some(moved), _) if moved.end > owners.len() as u64 => return Err("a rewrite made the journal longer".to_owned()),
                (OpKind::Cut, _, Some(to)) if is_done(op, faults.iter().find(|fault| fault.0 == call)) => {
                    let to = to as usize;
                    let (before, quarantine) = &cuts[&call];
                    same(before.len(), owners.len(), call)?;
                    if to > owners.len() {
                        return Err(format!("a cut made the journal longer: call {call}"));
                    }
                    let kept = quarantine::kept(quarantine);
                    let looked = log[..call].iter().rposition(|op| op.kind != OpKind::Cut).unwrap_or(0);
                    for at in (to..owners.len()).filter(|at| owners[*at] == Owner::Stranger) {
                        let is_kept = kept.iter().any(|(from, bytes)| at >= *from && bytes.get(at - from) == Some(&before[at]));
                        let is_too_late = pieces.iter().any(|piece| (looked + 1..=call).contains(&piece.call) && piece.range.contains(&at));
                        if !is_kept && !is_too_late {
                            return Err(format!("byte {at} of others is lost: call {call}"));
                        }
                        lost += usize::from(!is_kept);
                    }
                    owners.truncate(to);
                }
                _ => {}
            }
        }
        same(self.disk.read_file(&self.path).unwrap().len(), owners.len(), log.len())?;
        Ok((owners, lost))
    }
}

/// The replay has to come to the length that the journal has.
fn same(len: usize, replayed: usize, call: usize) -> Result<(), String> {
    if len == replayed { Ok(()) } else { Err(format!("before call {call} the journal has {len} bytes, and {replayed} by the log")) }
}

/// A call may be done and yet return an error.
fn is_done(op: &Op, fault: Option<&(usize, How)>) -> bool {
    op.outcome == Outcome::Done || matches!(fault, Some((_, How::ErrorAfter { .. })))
}
