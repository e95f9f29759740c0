//! A command that is given lines on its stdin, in a process group of its own, so that ^C at the terminal does not reach it by itself.

use std::{
    borrow::Cow,
    io::{self, BufWriter, Write},
    os::unix::process::CommandExt,
    process::{Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

/// Which command runs at the moment, if one does.
#[derive(Debug, Clone, Default)]
pub(crate) struct Running(Arc<Mutex<Option<Pid>>>);

impl Running {
    /// Runs a command to its end, and gives it these lines.
    pub(crate) fn run<'a>(&self, command: &mut Command, lines: impl Iterator<Item = Cow<'a, [u8]>>) -> io::Result<ExitStatus> {
        let (mut child, pid) = {
            let mut running = self.pid();
            let child = command.stdin(Stdio::piped()).process_group(0).spawn()?;
            let pid = Pid::from_child(&child);
            *running = Some(pid);
            (child, pid)
        };
        if let Some(stdin) = child.stdin.take() {
            // A command may end without reading all of it; its exit status says whether that was right.
            let _ = give(BufWriter::new(stdin), lines);
        }
        // The number stays the command's own until the status is taken: a signal meets nobody else.
        let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        *self.pid() = None;
        child.wait()
    }

    /// Tells the command that runs to end, and whatever it has started; no other begins after that. Not by SIGINT, which a shell has its background
    /// jobs ignore.
    pub(crate) fn terminate(&self) {
        let running = self.pid();
        if let Some(pid) = *running {
            let _ = kill_process_group(pid, Signal::TERM);
        }
        // Held until the process is gone.
        std::mem::forget(running);
    }

    fn pid(&self) -> MutexGuard<'_, Option<Pid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn give<'a>(mut stdin: impl Write, mut lines: impl Iterator<Item = Cow<'a, [u8]>>) -> io::Result<()> {
    lines.try_for_each(|line| stdin.write_all(&line).and_then(|()| stdin.write_all(b"\n")))?;
    stdin.flush()
}
