//! How far consumers are behind the journal's end.

use std::path::Path;

use serde::Serialize;
use untorn::{Mark, Position};

use crate::{
    exit::Stop,
    say,
    text::{Shown, count, grouped},
};

/// One consumer of a journal.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Lag {
    name: String,
    /// The last acknowledged record.
    seq: Option<u64>,
    #[serde(skip)]
    position: Option<Position>,
    /// How many records are behind it.
    behind: u64,
    saved_at: String,
}

/// The consumers whose checkpoints are in one of the directories, as far as they consume the journal at `path`. One that cannot be read is told.
pub(crate) fn of(dirs: &[std::path::PathBuf], path: &Path) -> Result<Vec<Lag>, Stop> {
    let canonical = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut found = Vec::new();
    for dir in dirs {
        for state in untorn::checkpoints(dir)? {
            let state = match state {
                Ok(state) => state,
                Err(error) => {
                    say::error(&error);
                    continue;
                }
            };
            let of_it = state.sources.iter().map(|source| &source.checkpoint).find(|checkpoint| checkpoint.path() == Some(&canonical));
            found.extend(of_it.map(|checkpoint| Lag {
                name: state.name.clone(),
                seq: checkpoint.seq(),
                position: checkpoint.position(),
                behind: 0,
                saved_at: state.saved_at.clone(),
            }));
        }
    }
    Ok(found)
}

impl Lag {
    /// Takes note of a record of the journal.
    pub(crate) fn meet(&mut self, mark: &Mark) {
        let is_consumed = match (self.seq, mark.seq, self.position) {
            (Some(seq), Some(met), _) => met <= seq,
            // Positions order as the journal does.
            (_, _, Some(position)) => mark.start < position,
            (_, _, None) => false,
        };
        self.behind += u64::from(!is_consumed);
    }

    /// Says it, one line for each.
    pub(crate) fn tell(lags: &[Lag]) {
        let at = |lag: &Lag| lag.seq.map(|seq| format!("#{}", grouped(seq))).unwrap_or_default();
        let behind = |lag: &Lag| format!("{} behind", count(lag.behind, "record"));
        let width = |text: &dyn Fn(&Lag) -> String| lags.iter().map(|lag| text(lag).len()).max().unwrap_or_default();
        let (names, numbers, behinds) = (width(&|lag| lag.name.clone()), width(&at), width(&behind));
        for (index, lag) in lags.iter().enumerate() {
            let label = if index == 0 { "consumer" } else { "" };
            let (name, saved) = (Shown(&lag.name).to_string(), Shown(&lag.saved_at));
            say::lines(format_args!("  {label:<10} {name:<names$}  {:<numbers$}  {:>behinds$}   saved {saved}", at(lag), behind(lag)));
        }
    }
}
