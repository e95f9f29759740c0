//! The protocols, one system call a step: writers, somebody who rotates, somebody who repairs by rewriting, and a stranger.
//!
//! Whoever takes the lock may be killed between any two steps; the kernel then lets its locks go, and it starts again. A check and the cut that
//! follows from it are two steps, since no system call makes them one.

use std::collections::BTreeSet;

use stateright::{Model, Property};

use crate::disk::{Author, Disk, FileId, Piece, Record, STRANGER};

/// What to do with a piece of a failed append, and with a torn tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Rollback {
    Cut,
    Fence,
}

/// A step that is left out or done wrongly, to see that the model notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Mistake {
    /// A writer does not see whether the path still names its file once it has the lock.
    PathNotRechecked,
    /// A writer appends without looking at how the file ends.
    TailNotLooked,
    /// A failed append is cut off without looking at what stands behind it.
    CutWithoutLooking,
    /// A short write counts as the whole of it.
    ShortWriteAcknowledged,
    /// The new file of a rewrite is not locked before it is visible, and late records are not copied.
    RewriteWithoutLock,
    /// A rotation makes its new file by replacing what is there.
    RotationReplaces,
}

/// Who takes part.
#[derive(Clone, Debug)]
pub(crate) struct Protocol {
    pub(crate) rollback: Rollback,
    pub(crate) writers: Author,
    pub(crate) records: u8,
    pub(crate) kills: u8,
    pub(crate) stranger_appends: u8,
    pub(crate) rotates: bool,
    pub(crate) rewrites: bool,
    pub(crate) mistake: Option<Mistake>,
}

/// Where a lock-taker is. What a phase holds was seen in the step before, and may be out of date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    Closed,
    Opened {
        file: FileId,
    },
    Locked {
        file: FileId,
    },
    /// The path named this file.
    Checked {
        file: FileId,
    },
    /// The file ended in torn bytes from `boundary` to `end`.
    Torn {
        file: FileId,
        boundary: usize,
        end: usize,
    },
    /// They are in quarantine.
    Kept {
        file: FileId,
        boundary: usize,
    },
    /// The file ended on a boundary, here.
    Ready {
        file: FileId,
        end: usize,
    },
    /// The head of the record was written at `start`, and the call returned.
    Short {
        file: FileId,
        start: usize,
    },
    /// The rest did not go. The head was the last of the file.
    Ours {
        file: FileId,
        start: usize,
    },
    Written {
        file: FileId,
    },
    /// The rotator has renamed the active file, or the repairer has a copy of this many pieces.
    Renamed {
        file: FileId,
    },
    Copied {
        file: FileId,
        new: FileId,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) disk: Disk,
    phases: Vec<Phase>,
    begun: Vec<u8>,
    acknowledged: BTreeSet<Record>,
    kills: u8,
    stranger: Option<FileId>,
    stranger_appends: u8,
    /// Rotations and rewrites done.
    swaps: u8,
    /// Some failed append was taken back.
    rolled_back: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    Open(Author),
    Lock(Author),
    CheckPath(Author),
    LookAtTail(Author),
    Quarantine(Author),
    CutTail(Author),
    FenceTail(Author),
    Write(Author),
    WriteShort(Author),
    WriteRest(Author),
    LookAtFailed(Author),
    CutFailed(Author),
    FenceFailed(Author),
    Unlock(Author),
    Rename(Author),
    Install(Author),
    Copy(Author),
    Swap(Author),
    Kill(Author),
    StrangerOpens,
    StrangerAppends,
}

impl Protocol {
    fn rotator(&self) -> Author {
        self.writers
    }

    fn repairer(&self) -> Author {
        self.writers + 1
    }

    fn is_writer(&self, who: Author) -> bool {
        who < self.writers
    }

    fn errs(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    /// What a lock-taker may do next.
    fn steps(&self, state: &State, who: Author, actions: &mut Vec<Action>) {
        let phase = state.phases[usize::from(who)];
        let is_open = !matches!(phase, Phase::Closed);
        if is_open && state.kills < self.kills {
            actions.push(Action::Kill(who));
        }
        match phase {
            Phase::Closed => {
                let has_work = if self.is_writer(who) { state.begun[usize::from(who)] < self.records } else { state.swaps == 0 };
                if has_work {
                    actions.push(Action::Open(who));
                }
            }
            Phase::Opened { .. } => actions.push(Action::Lock(who)),
            Phase::Locked { .. } => actions.push(Action::CheckPath(who)),
            Phase::Checked { .. } => actions.push(Action::LookAtTail(who)),
            Phase::Torn { .. } => actions.push(match self.rollback {
                Rollback::Cut => Action::Quarantine(who),
                Rollback::Fence => Action::FenceTail(who),
            }),
            Phase::Kept { .. } => actions.push(Action::CutTail(who)),
            Phase::Ready { .. } if self.is_writer(who) => actions.extend([Action::Write(who), Action::WriteShort(who)]),
            Phase::Ready { .. } if who == self.rotator() => actions.push(Action::Rename(who)),
            // A repairer refuses beside a stranger.
            Phase::Ready { .. } if state.stranger.is_some() => actions.push(Action::Unlock(who)),
            Phase::Ready { .. } => actions.push(Action::Copy(who)),
            Phase::Short { .. } => actions.extend([Action::WriteRest(who), Action::LookAtFailed(who)]),
            Phase::Ours { .. } => actions.push(match self.rollback {
                Rollback::Cut => Action::CutFailed(who),
                Rollback::Fence => Action::FenceFailed(who),
            }),
            Phase::Written { .. } => actions.push(Action::Unlock(who)),
            Phase::Renamed { .. } => actions.push(Action::Install(who)),
            Phase::Copied { .. } => actions.push(Action::Swap(who)),
        }
    }

    fn record(state: &State, who: Author) -> Record {
        Record { author: who, count: state.begun[usize::from(who)] }
    }

    /// Ends an append: the next one is of the next record.
    fn settle(state: &mut State, who: Author, is_acknowledged: bool) {
        if is_acknowledged {
            state.acknowledged.insert(Self::record(state, who));
        }
        state.begun[usize::from(who)] += 1;
    }

    fn step(&self, state: &mut State, who: Author, action: Action) -> Option<()> {
        let ours = Self::record(state, who);
        let whole = [Piece::Head(ours), Piece::Tail(ours)];
        let next = match (action, state.phases[usize::from(who)]) {
            (Action::Open(_), _) => {
                // A missing path is a rotation half done: whoever opens makes the new file.
                let file = match state.disk.named {
                    Some(file) => file,
                    None => {
                        let file = state.disk.create(Vec::new(), None);
                        state.disk.named = Some(file);
                        file
                    }
                };
                Phase::Opened { file }
            }
            (Action::Lock(_), Phase::Opened { file }) => state.disk.lock(file, who).then_some(Phase::Locked { file })?,
            (Action::CheckPath(_), Phase::Locked { file }) => {
                if state.disk.named == Some(file) || self.errs(Mistake::PathNotRechecked) {
                    Phase::Checked { file }
                } else {
                    state.disk.unlock_all(who);
                    Phase::Closed
                }
            }
            (Action::LookAtTail(_), Phase::Checked { file }) => {
                let (boundary, end) = (state.disk.boundary(file), state.disk.size(file));
                if boundary == end || (self.errs(Mistake::TailNotLooked) && self.is_writer(who)) {
                    Phase::Ready { file, end }
                } else {
                    Phase::Torn { file, boundary, end }
                }
            }
            (Action::Quarantine(_), Phase::Torn { file, boundary, end }) => {
                let torn = state.disk.files[file].get(boundary..end)?.to_vec();
                state.disk.quarantine.extend(torn);
                Phase::Kept { file, boundary }
            }
            (Action::CutTail(_), Phase::Kept { file, boundary }) => {
                state.disk.files[file].truncate(boundary);
                Phase::Checked { file }
            }
            (Action::FenceTail(_), Phase::Torn { file, .. }) => {
                state.disk.append(file, &[Piece::Lf]);
                Phase::Checked { file }
            }
            (Action::Write(_), Phase::Ready { file, .. }) => {
                state.disk.append(file, &whole);
                Self::settle(state, who, true);
                Phase::Written { file }
            }
            (Action::WriteShort(_), Phase::Ready { file, .. }) => {
                let start = state.disk.size(file);
                state.disk.append(file, &whole[..1]);
                if self.errs(Mistake::ShortWriteAcknowledged) {
                    Self::settle(state, who, true);
                    Phase::Written { file }
                } else {
                    Phase::Short { file, start }
                }
            }
            (Action::WriteRest(_), Phase::Short { file, start }) => {
                // Where the rest landed is told by the offset after the call. Behind a stranger, the whole line goes again, on a fresh one.
                state.disk.append(file, &whole[1..]);
                if state.disk.size(file) != start + 2 {
                    state.disk.append(file, &[Piece::Lf, whole[0], whole[1]]);
                }
                Self::settle(state, who, true);
                Phase::Written { file }
            }
            (Action::LookAtFailed(_), Phase::Short { file, start }) => {
                if state.disk.size(file) == start + 1 || self.errs(Mistake::CutWithoutLooking) {
                    Phase::Ours { file, start }
                } else {
                    // Somebody else's bytes stand behind ours: all of it stays, with an LF behind it.
                    state.disk.append(file, &[Piece::Lf]);
                    Self::settle(state, who, false);
                    Phase::Written { file }
                }
            }
            (Action::CutFailed(_), Phase::Ours { file, start }) => {
                state.disk.files[file].truncate(start);
                state.rolled_back = true;
                Self::settle(state, who, false);
                Phase::Written { file }
            }
            (Action::FenceFailed(_), Phase::Ours { file, .. }) => {
                state.disk.append(file, &[Piece::Lf]);
                state.rolled_back = true;
                Self::settle(state, who, false);
                Phase::Written { file }
            }
            (Action::Rename(_), Phase::Ready { file, .. }) => {
                state.disk.archived.push(file);
                state.disk.named = None;
                Phase::Renamed { file }
            }
            (Action::Install(_), Phase::Renamed { file }) => {
                if state.disk.named.is_none() || self.errs(Mistake::RotationReplaces) {
                    let new = state.disk.create(Vec::new(), Some(who));
                    state.disk.named = Some(new);
                }
                state.swaps += 1;
                Phase::Written { file }
            }
            (Action::Copy(_), Phase::Ready { file, .. }) => {
                if self.errs(Mistake::RewriteWithoutLock) {
                    state.disk.unlock_all(who);
                }
                let content = state.disk.files[file].clone();
                let new = state.disk.create(content, Some(who));
                Phase::Copied { file, new }
            }
            (Action::Swap(_), Phase::Copied { file, new }) => {
                state.disk.named = Some(new);
                state.swaps += 1;
                Phase::Written { file }
            }
            (Action::Unlock(_), Phase::Written { .. } | Phase::Ready { .. }) => {
                state.disk.unlock_all(who);
                if !self.is_writer(who) {
                    state.swaps += 1;
                }
                Phase::Closed
            }
            (Action::Kill(_), _) => {
                state.disk.unlock_all(who);
                state.kills += 1;
                if self.is_writer(who)
                    && state.disk.files.iter().enumerate().any(|(file, _)| state.disk.records_in(file).any(|record| record == ours))
                {
                    // What a dead process began, nobody ends; another one begins with a record of its own.
                    Self::settle(state, who, false);
                }
                Phase::Closed
            }
            _ => return None,
        };
        state.phases[usize::from(who)] = next;
        Some(())
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut disk = Disk::default();
        disk.named = Some(disk.create(Vec::new(), None));
        let takers = usize::from(self.writers) + 2;
        vec![State {
            disk,
            phases: vec![Phase::Closed; takers],
            begun: vec![0; takers],
            acknowledged: BTreeSet::new(),
            kills: 0,
            stranger: None,
            stranger_appends: 0,
            swaps: 0,
            rolled_back: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for who in 0..self.writers {
            self.steps(state, who, actions);
        }
        if self.rotates {
            self.steps(state, self.rotator(), actions);
        }
        if self.rewrites {
            self.steps(state, self.repairer(), actions);
        }
        if state.stranger_appends < self.stranger_appends {
            actions.push(if state.stranger.is_some() { Action::StrangerAppends } else { Action::StrangerOpens });
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::StrangerOpens => state.stranger = Some(state.disk.named?),
            Action::StrangerAppends => {
                let record = Record { author: STRANGER, count: state.stranger_appends };
                state.disk.append(state.stranger?, &[Piece::Head(record), Piece::Tail(record)]);
                state.stranger_appends += 1;
            }
            Action::Open(who)
            | Action::Lock(who)
            | Action::CheckPath(who)
            | Action::LookAtTail(who)
            | Action::Quarantine(who)
            | Action::CutTail(who)
            | Action::FenceTail(who)
            | Action::Write(who)
            | Action::WriteShort(who)
            | Action::WriteRest(who)
            | Action::LookAtFailed(who)
            | Action::CutFailed(who)
            | Action::FenceFailed(who)
            | Action::Unlock(who)
            | Action::Rename(who)
            | Action::Install(who)
            | Action::Copy(who)
            | Action::Swap(who)
            | Action::Kill(who) => self.step(&mut state, who, action)?,
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("nothing is glued", |_, state: &State| !state.disk.has_glued()),
            Property::always("an acknowledged record is there once", |_, state: &State| {
                state.acknowledged.iter().all(|record| state.disk.times(*record) == 1)
            }),
            Property::always("a stranger's bytes stay", |_, state: &State| {
                (0..state.stranger_appends)
                    .map(|count| Record { author: STRANGER, count })
                    .all(|record| state.disk.has(Piece::Head(record)) && state.disk.has(Piece::Tail(record)))
            }),
            Property::sometimes("a failed append is taken back", |_, state: &State| state.rolled_back),
            Property::sometimes("everybody is done", |model, state: &State| {
                let wanted = usize::from(model.writers) * usize::from(model.records);
                state.acknowledged.len() == wanted && state.phases.iter().all(|phase| *phase == Phase::Closed)
            }),
        ]
    }
}
