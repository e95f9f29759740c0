//! The protocols of lock, rollback, tail repair, rotation and rewriting repair as models, every interleaving of their system calls tried.
//!
//! The code is tried by `tests/crash`; here it is the rules that are. A kill may come between any two steps, and a stranger that takes no lock may
//! append between any two. What a cut can lose to such a stranger is found here, and has to be: it is why [`Rollback::Fence`] is there.

#![allow(clippy::indexing_slicing, reason = "indices of the model's own lists")]
#![allow(clippy::print_stdout, reason = "it says what it explored")]

mod disk;
mod protocol;

use stateright::{Checker, Model};

use crate::protocol::{Mistake, Protocol, Rollback};

const GLUED: &str = "nothing is glued";
const ACKNOWLEDGED: &str = "an acknowledged record is there once";
const STRANGERS: &str = "a stranger's bytes stay";

/// Two writers, one of whom may be killed.
const WRITERS: Protocol =
    Protocol { rollback: Rollback::Cut, writers: 2, records: 2, kills: 1, stranger_appends: 0, rotates: false, rewrites: false, mistake: None };

/// The broken promises, and how many states were looked at.
fn broken(protocol: Protocol) -> Vec<&'static str> {
    let name = format!("{protocol:?}");
    let checker = protocol.checker().threads(2).spawn_bfs().join();
    println!("{} states: {name}", checker.unique_state_count());
    let mut broken: Vec<_> = [GLUED, ACKNOWLEDGED, STRANGERS].into_iter().filter(|property| checker.discovery(property).is_some()).collect();
    broken.sort_unstable();
    if broken.is_empty() {
        checker.assert_properties();
    }
    broken
}

/// Promises P1, P2 and P3 among writers that take the lock.
#[test]
fn writers_that_take_the_lock_keep_every_promise() {
    for rollback in [Rollback::Cut, Rollback::Fence] {
        assert_eq!(broken(Protocol { rollback, kills: 2, ..WRITERS }), [""; 0], "{rollback:?}");
    }
}

#[test]
fn a_rotation_between_any_two_steps_loses_nothing() {
    for rollback in [Rollback::Cut, Rollback::Fence] {
        assert_eq!(broken(Protocol { rollback, rotates: true, ..WRITERS }), [""; 0], "{rollback:?}");
    }
}

#[test]
fn a_rewriting_repair_between_any_two_steps_loses_nothing() {
    for rollback in [Rollback::Cut, Rollback::Fence] {
        assert_eq!(broken(Protocol { rollback, rewrites: true, ..WRITERS }), [""; 0], "{rollback:?}");
    }
}

#[test]
fn a_rotation_and_a_rewriting_repair_may_meet() {
    assert_eq!(broken(Protocol { rotates: true, rewrites: true, records: 1, ..WRITERS }), [""; 0]);
}

/// No system call truncates only if the size is still what it was. The model has to find that out.
#[test]
fn a_stranger_between_the_look_and_the_cut_loses_its_record() {
    assert_eq!(broken(Protocol { stranger_appends: 1, ..WRITERS }), [STRANGERS]);
}

/// Promise P3 in the mode that never cuts.
#[test]
fn a_fence_takes_nothing_from_a_stranger_whenever_it_appends() {
    assert_eq!(broken(Protocol { rollback: Rollback::Fence, stranger_appends: 2, ..WRITERS }), [""; 0]);
    assert_eq!(broken(Protocol { rollback: Rollback::Fence, stranger_appends: 1, rotates: true, ..WRITERS }), [""; 0]);
}

/// A model that finds nothing wrong proves nothing unless it finds what is.
#[test]
fn every_step_that_is_left_out_is_noticed() {
    let mistakes = [
        (Mistake::PathNotRechecked, ACKNOWLEDGED),
        (Mistake::TailNotLooked, GLUED),
        (Mistake::CutWithoutLooking, STRANGERS),
        (Mistake::ShortWriteAcknowledged, ACKNOWLEDGED),
        (Mistake::RewriteWithoutLock, ACKNOWLEDGED),
        (Mistake::RotationReplaces, ACKNOWLEDGED),
    ];
    for (mistake, expected) in mistakes {
        let rewrites = matches!(mistake, Mistake::PathNotRechecked | Mistake::RewriteWithoutLock);
        let rotates = mistake == Mistake::RotationReplaces;
        let stranger_appends = u8::from(mistake == Mistake::CutWithoutLooking);
        let protocol = Protocol { mistake: Some(mistake), rewrites, rotates, stranger_appends, ..WRITERS };
        assert!(broken(protocol).contains(&expected), "{mistake:?} is not noticed");
    }
}
