//! Journals followed for `tail -f`: each on a thread of its own, all told on one.

use std::{
    path::PathBuf,
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel},
    thread,
    time::{Duration, Instant},
};

use untorn::{FollowEvent, Followed, Follower, Start};

use crate::{
    exit::{Exit, Stop},
    finding::Head,
    interrupt,
    output::{self, Output},
    records::{self, Form, Printed},
    say,
    text::{Shown, count},
};

/// How many things may wait to be told.
const WAITING_MAX: usize = 256;

/// After so long, an unfinished line is told of.
const PENDING_FOR: Duration = Duration::from_secs(30);

/// How often it is looked whether anybody still reads.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a journal that cannot be read is left alone before the next try.
const RETRY_AFTER: Duration = Duration::from_secs(1);

enum News {
    Followed(usize, Followed),
    Pending(usize, u64),
    Failed(usize, untorn::Error),
    Interrupted,
}

/// What was told of one journal.
struct Told {
    path: PathBuf,
    records: u64,
    last: Option<u64>,
    damaged: u64,
    /// The failure told last, so that one that lasts is told once.
    failure: Option<String>,
}

/// Prints the last records of the journals and then what is appended to them, until it is interrupted.
pub(crate) fn follow(paths: Vec<PathBuf>, last: u64, form: Form) -> Result<Exit, Stop> {
    let mut exit = Exit::Done;
    let mut told = Vec::new();
    let mut followers = Vec::new();
    for path in paths {
        match Follower::open(&path, Start::Last(last)) {
            Ok(follower) => {
                followers.push(follower);
                told.push(Told { path, records: 0, last: None, damaged: 0, failure: None });
            }
            Err(error) => exit = exit.and(Err(error.into())).unwrap_or(exit),
        }
    }
    if followers.is_empty() {
        return Ok(exit);
    }
    let (sender, news) = sync_channel(WAITING_MAX);
    let interrupted = sender.clone();
    interrupt::end_after(move || drop(interrupted.send(News::Interrupted)));
    for (at, follower) in followers.into_iter().enumerate() {
        let sender = sender.clone();
        let started = thread::Builder::new().spawn(move || watch(at, follower, &sender));
        started.map_err(|error| Stop::system("start a thread", error))?;
    }
    drop(sender);
    let mut output = Output::new();
    tell(&news, &mut told, form, &mut output)?;
    for told in &told {
        told.close();
    }
    Ok(Exit::Interrupted)
}

/// Sends what one follower gives, until nobody takes it.
fn watch(at: usize, mut follower: Follower, news: &SyncSender<News>) {
    // How much has been pending, since when, and whether that was told.
    let mut pending = (0, Instant::now(), false);
    loop {
        let sent = match follower.next(Duration::from_secs(1)) {
            Ok(Some(followed)) => news.send(News::Followed(at, followed)),
            Ok(None) => {
                if follower.pending() != pending.0 {
                    pending = (follower.pending(), Instant::now(), false);
                }
                if pending.0 == 0 || pending.2 || pending.1.elapsed() < PENDING_FOR {
                    continue;
                }
                pending.2 = true;
                news.send(News::Pending(at, pending.0))
            }
            Err(error) => {
                let sent = news.send(News::Failed(at, error));
                thread::sleep(RETRY_AFTER);
                sent
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

fn tell(news: &Receiver<News>, told: &mut [Told], form: Form, output: &mut Output) -> Result<(), Stop> {
    loop {
        let next = match news.try_recv() {
            Ok(next) => next,
            Err(TryRecvError::Empty) => {
                output.flush()?;
                match news.recv_timeout(LOOK_EVERY) {
                    Ok(next) => next,
                    Err(RecvTimeoutError::Timeout) if output::is_unread() => return Err(Stop::Unread),
                    Err(RecvTimeoutError::Timeout) => continue,
                    Err(RecvTimeoutError::Disconnected) => return Ok(()),
                }
            }
            Err(TryRecvError::Disconnected) => return output.flush(),
        };
        let (News::Followed(at, _) | News::Pending(at, _) | News::Failed(at, _)) = next else { return output.flush() };
        let Some(told) = told.get_mut(at) else { continue };
        match next {
            News::Followed(_, followed) => told.follow(followed, form, output)?,
            News::Pending(_, bytes) => {
                output.flush()?;
                let bytes = count(bytes, "byte");
                told.say(format_args!("{bytes} of an unfinished line pending for {} s", PENDING_FOR.as_secs()));
            }
            News::Failed(_, error) => {
                output.flush()?;
                told.fail(&error);
            }
            News::Interrupted => {}
        }
    }
}

impl Told {
    fn say(&self, what: impl std::fmt::Display) {
        say::message(format_args!("{}: {what}", Shown(self.path.display())));
    }

    fn follow(&mut self, followed: Followed, form: Form, output: &mut Output) -> Result<(), Stop> {
        self.failure = None;
        match followed {
            Followed::Record(record) if record.mark.seq.is_some() && !records::is_json(record.value.as_bytes()) => {
                output.flush()?;
                self.damaged += 1;
                let message = "a payload that is no JSON, under a good seal, skipped";
                self.damage(None, untorn::Severity::Error, "not-json", message, record.mark.start.offset);
                Ok(())
            }
            Followed::Record(record) => {
                self.records += 1;
                self.last = record.mark.seq.or(self.last);
                let payload = record.value.as_bytes();
                match form {
                    Form::Json => output.json_with_payload(&Printed::of(&self.path.to_string_lossy(), &record.mark), payload),
                    Form::Line => output.line(&record.value.line()),
                    Form::Payload => output.line(payload),
                }
            }
            Followed::Event(event) => {
                output.flush()?;
                self.happened(&event);
                Ok(())
            }
        }
    }

    fn happened(&mut self, event: &FollowEvent) {
        match event {
            FollowEvent::Corrupt(finding) => {
                self.damaged += 1;
                let line = (finding.line > 0).then_some((finding.line, finding.column));
                self.damage(line, finding.severity(), finding.code.as_str(), &finding.message, finding.offset);
            }
            FollowEvent::Rotated { .. } => {
                let number = self.last.map(|last| format!(" at #{}", last.saturating_add(1))).unwrap_or_default();
                self.say(format_args!("{event}{number}"));
            }
            _ => self.say(event),
        }
    }

    fn damage(&self, line: Option<(u64, u64)>, severity: untorn::Severity, code: &str, message: &str, offset: u64) {
        say::message(Head { path: &self.path, line, severity, code, message, offset });
    }

    fn fail(&mut self, error: &untorn::Error) {
        let failure = Some(error.to_string());
        if self.failure != failure {
            say::error(error);
            self.failure = failure;
        }
    }

    /// Says in the end what there was.
    fn close(&self) {
        let last = self.last.map(|last| format!(", last #{last}")).unwrap_or_default();
        let damaged = if self.damaged > 0 { format!("; {} skipped", count(self.damaged, "damaged line")) } else { String::new() };
        self.say(format_args!("{}{last}{damaged}", count(self.records, "record")));
    }
}
