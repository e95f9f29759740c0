//! `untorn append --json` as a process: records go in, acknowledgements come out.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::Value;

pub(crate) struct Appender {
    pub(crate) child: Child,
    pub(crate) records: ChildStdin,
    pub(crate) acknowledgements: Acknowledgements,
    words: ChildStderr,
}

/// The numbers of the records in the order in which they went in.
pub(crate) struct Acknowledgements(BufReader<ChildStdout>);

impl Appender {
    pub(crate) fn spawn(command: &mut Command) -> Appender {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let records = child.stdin.take().unwrap();
        let acknowledgements = Acknowledgements(BufReader::new(child.stdout.take().unwrap()));
        let words = child.stderr.take().unwrap();
        Appender { child, records, acknowledgements, words }
    }

    /// Gives one record in and waits for its number; `None` if there will be none.
    pub(crate) fn append(&mut self, record: &str) -> Option<u64> {
        feed(&mut self.records, record).then(|| self.acknowledgements.next()).flatten()
    }

    /// Ends the records, and gives what it had to say.
    pub(crate) fn finish(self) -> String {
        let Appender { mut child, records, mut words, .. } = self;
        drop(records);
        let mut said = String::new();
        words.read_to_string(&mut said).unwrap();
        child.wait().unwrap();
        said
    }
}

/// Whether anybody was there to take the record.
pub(crate) fn feed(into: &mut ChildStdin, record: &str) -> bool {
    into.write_all(record.as_bytes()).and_then(|()| into.write_all(b"\n")).is_ok()
}

impl Iterator for Acknowledgements {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        // A kill may cut an acknowledgement short; it was not given then.
        let acknowledgement: Value = serde_json::from_str(line.strip_suffix('\n')?).unwrap();
        acknowledgement["seq"].as_u64()
    }
}
