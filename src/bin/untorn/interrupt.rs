//! What happens on ^C: the step at hand is finished, and nothing new begun.

use std::{
    process::exit,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::{exit::Exit, say, source};

/// How long a step may go on after ^C. An append may wait for a lock, or for whoever reads our output; ending it there tears nothing.
const GRACE: Duration = Duration::from_secs(2);

/// Ends the process at once on ^C: for commands that only read.
pub(crate) fn end_at_once() {
    on_interrupt(Duration::ZERO, || {});
}

/// Calls `tell` on ^C, on a thread of its own, and ends the process a little later, or at a second ^C, whatever it is doing.
pub(crate) fn end_after(tell: impl FnOnce() + Send + 'static) {
    on_interrupt(GRACE, tell);
}

/// Calls `stop` on ^C and on SIGTERM, and lets the command finish the batch at hand, an [`unbroken`] step; a second ^C calls `break_off` and ends
/// the process at once. Gives what [`was_interrupted`] looks at.
pub(crate) fn finish_first(stop: impl FnOnce() + Send + 'static, break_off: impl Fn() + Send + 'static) -> Arc<AtomicBool> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let Ok(mut signals) = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]) else { return interrupted };
    let seen = Arc::clone(&interrupted);
    std::thread::spawn(move || {
        let first = signals.forever().next();
        seen.store(first == Some(SIGINT), Ordering::SeqCst);
        stop();
        drop(request("batch"));
        for signal in signals.forever() {
            if signal == SIGINT {
                break_off();
                end();
            }
        }
    });
    interrupted
}

/// Whether it was ^C that ended it.
pub(crate) fn was_interrupted(interrupted: &AtomicBool) -> bool {
    interrupted.load(Ordering::SeqCst)
}

/// What ^C is to meet.
struct State {
    steps: usize,
    is_requested: bool,
}

static STATE: Mutex<State> = Mutex::new(State { steps: 0, is_requested: false });

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends the process on ^C, but not inside a [`Step`]: for commands that write files. A second ^C does not wait for the step.
pub(crate) fn end_between_steps() {
    on_interrupt(Duration::MAX, || {
        // Held to the end, so that no step begins any more.
        if let Some(_state) = request("file") {
            end();
        }
    });
}

/// A step that ^C does not break off, until it is dropped. What a step has done is told before it is over.
#[derive(Debug)]
#[must_use = "dropping it ends the step"]
pub(crate) struct Step(());

impl Step {
    pub(crate) fn begin() -> Step {
        state().steps += 1;
        Step(())
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        state().steps -= 1;
    }
}

/// Takes note of a ^C. Says so if a step has to be finished; if none has to, none begins while what is given back is held.
fn request(what: &str) -> Option<MutexGuard<'static, State>> {
    let mut state = state();
    state.is_requested = true;
    if state.steps == 0 {
        return Some(state);
    }
    say::message(format_args!("interrupted; finishing the {what} at hand, ^C again ends it at once"));
    None
}

/// Runs a step that ^C does not break off; whoever calls looks afterwards whether it was [requested](is_requested).
pub(crate) fn unbroken<T>(step: impl FnOnce() -> T) -> T {
    let _step = Step::begin();
    step()
}

/// Whether there was a ^C that a step has outlived.
pub(crate) fn is_requested() -> bool {
    state().is_requested
}

fn end() -> ! {
    source::forget_stdin();
    exit(Exit::Interrupted as i32)
}

#[cfg(unix)]
fn on_interrupt(grace: Duration, tell: impl FnOnce() + Send + 'static) {
    use std::thread;

    // Without a handler, ^C ends the process as well; there is nothing to be said.
    let Ok(mut signals) = signal_hook::iterator::Signals::new([signal_hook::consts::SIGINT]) else { return };
    thread::spawn(move || {
        signals.forever().next();
        if !grace.is_zero() {
            thread::spawn(move || {
                thread::sleep(grace);
                end();
            });
            tell();
            signals.forever().next();
        }
        end();
    });
}

#[cfg(not(unix))]
fn on_interrupt(_: Duration, _: impl FnOnce() + Send + 'static) {}

/// Makes the limit on the size of files an error of the write that meets it; by default the system ends the process there.
pub(crate) fn survive_file_size_limit() {
    #[cfg(unix)]
    let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, std::sync::Arc::new(false.into()));
}
