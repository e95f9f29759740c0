//! Stdout: records, names and JSON, in large writes.

use std::io::{self, BufWriter, StdoutLock, Write};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use crate::exit::Stop;

const BUFFER_BYTES: usize = 64 << 10;

pub(crate) struct Output(BufWriter<StdoutLock<'static>>);

impl Output {
    pub(crate) fn new() -> Output {
        Output(BufWriter::with_capacity(BUFFER_BYTES, io::stdout().lock()))
    }

    /// Writes `bytes` and one `end`, in any case both or an error.
    pub(crate) fn ended(&mut self, bytes: &[u8], end: u8) -> Result<(), Stop> {
        self.0.write_all(bytes).and_then(|()| self.0.write_all(&[end])).map_err(stop)
    }

    pub(crate) fn line(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        self.ended(bytes, b'\n')
    }

    /// Writes one object on a line of its own.
    pub(crate) fn json(&mut self, object: &impl Serialize) -> Result<(), Stop> {
        serde_json::to_writer(&mut self.0, object).map_err(|error| stop(error.into()))?;
        self.line(b"")
    }

    /// Writes one object, `payload` added to it as its last member, as it stands.
    pub(crate) fn json_with_payload(&mut self, object: &impl Serialize, payload: &[u8]) -> Result<(), Stop> {
        let head = serde_json::to_vec(object).map_err(|error| stop(error.into()))?;
        let open = head.strip_suffix(b"}").unwrap_or(&head);
        [open, b",\"payload\":", payload].into_iter().try_for_each(|part| self.0.write_all(part)).map_err(stop)?;
        self.line(b"}")
    }

    pub(crate) fn flush(&mut self) -> Result<(), Stop> {
        self.0.flush().map_err(stop)
    }
}

/// Whether the other end of a pipe is closed. Who writes rarely learns of it late otherwise.
pub(crate) fn is_unread() -> bool {
    let stdout = io::stdout();
    let mut polled = [PollFd::new(&stdout, PollFlags::empty())];
    poll(&mut polled, Some(&Timespec::default())).is_ok() && polled.iter().any(|fd| fd.revents().contains(PollFlags::ERR))
}

pub(crate) fn stop(error: io::Error) -> Stop {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Stop::Unread,
        _ => Stop::system("write to stdout", error),
    }
}
