//! `untorn seal` and `untorn unseal`: a copy of a journal in the other form.
//!
//! The copy is written beside where it is to be and appears there when it is whole. The journal itself is only read.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use clap::builder::{OsStringValueParser, TypedValueParser};
use serde::Serialize;
use untorn::{Batch, Durability, Error, ErrorKind, Format, Lock, LockWait, Reader, Writer};

use crate::{
    args, compressed,
    exit::{Exit, Failure, Stop, help},
    interrupt,
    new_file::{self, NewFile},
    output::Output,
    records::{Records, Step, Walked},
    say::{self, good},
    source::Source,
    text::{self, Shown, count, grouped},
};

/// Records are appended in groups of about so many bytes.
const GROUP_BYTES: usize = 1 << 20;

/// Give each record a number and a CRC, in a new file
///
/// Records are numbered from 1 on, those too that have a number already. Archived segments become part of the one new file.
#[derive(Debug, clap::Args)]
#[command(after_help = help())]
pub(crate) struct Seal {
    #[command(flatten)]
    args: Args,
}

/// Take numbers and CRCs off the records, in a new file
///
/// What is left is each payload on a line of its own, exactly as it was appended.
#[derive(Debug, clap::Args)]
#[command(after_help = help())]
pub(crate) struct Unseal {
    #[command(flatten)]
    args: Args,
}

#[derive(Debug, clap::Args)]
struct Args {
    /// The journal; `-` is stdin
    #[arg(value_name = "IN")]
    from: OsString,

    /// The new file; one that is there already is not replaced
    #[arg(value_name = "OUT", value_parser = OsStringValueParser::new().try_map(args::new_file))]
    out: PathBuf,

    /// Leave damage out, and go on; the exit status is 1 all the same
    #[arg(long)]
    skip_damage: bool,

    /// Print what was done as one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn seal(command: &Seal) -> Result<Exit, Stop> {
    convert(&command.args, Format::Sealed)
}

pub(crate) fn unseal(command: &Unseal) -> Result<Exit, Stop> {
    convert(&command.args, Format::Plain)
}

/// What is printed of one conversion.
#[derive(Serialize)]
struct Converted {
    schema: &'static str,
    path: String,
    output: String,
    format: &'static str,
    records: u64,
    bytes: u64,
    /// Bytes of damage that were left out.
    skipped_bytes: u64,
}

fn convert(args: &Args, form: Format) -> Result<Exit, Stop> {
    interrupt::end_between_steps();
    new_file::refuse_existing(&args.out)?;
    let source = Source::open(&args.from)?;
    refuse_compressed(&source)?;
    // Of the directory in which the copy is written nothing stays behind on ^C. The copy looks for one itself.
    let _step = interrupt::Step::begin();
    let new = NewFile::at(&args.out)?;
    let reader = Reader::open(source.path()).map_err(|error| explained(error, args, form))?;
    let copied = Copy::new(&source, &new, form)?.run(Records::new(&source, reader, false), args.skip_damage)?;
    let Copied { records, skipped_bytes, exit } = copied;
    if exit >= Exit::Failed || (exit == Exit::Damage && !args.skip_damage) {
        return Ok(exit);
    }
    new.install()?;
    let bytes = fs::metadata(&args.out).map_or(0, |made| made.len());
    let format = if form == Format::Sealed { "sealed" } else { "plain" };
    if args.json {
        let path = source.name(source.path()).to_string_lossy().into_owned();
        let output = args.out.to_string_lossy().into_owned();
        let mut stdout = Output::new();
        stdout.json(&Converted { schema: "untorn.seal.v1", path, output, format, records, bytes, skipped_bytes })?;
        stdout.flush()?;
    } else {
        let numbers = if form == Format::Sealed && records > 0 { format!(", #1 to #{}", grouped(records)) } else { String::new() };
        let path = Shown(args.out.display());
        say::lines(format_args!("{path}: {}, {format}, {}, {}{numbers}", good("written"), count(bytes, "byte"), count(records, "record")));
    }
    Ok(exit)
}

/// Compressed segments of a journal are converted with it; a journal that is itself compressed is not, since nobody appends to it.
fn refuse_compressed(source: &Source) -> Result<(), Stop> {
    let Some(kind) = compressed::of_file(source.path()) else { return Ok(()) };
    let path = source.name(source.path());
    say::message(Shown(format_args!("cannot convert `{}`: it is compressed", path.display())));
    say::hint(format_args!("`{} {}` gives the records in it", kind.undo, text::quoted(path)));
    Err(Stop::Told)
}

/// A copy that is being written.
struct Copy<'a> {
    source: &'a Source,
    writer: Writer,
    group: Batch,
    /// Where the records of the group come from.
    lines: Vec<(PathBuf, u64)>,
    records: u64,
}

/// How far a copy has come.
struct Copied {
    records: u64,
    skipped_bytes: u64,
    exit: Exit,
}

impl Copy<'_> {
    fn new<'a>(source: &'a Source, new: &NewFile, form: Format) -> Result<Copy<'a>, Stop> {
        let mut options = Writer::options();
        options.format(form).durability(Durability::Os).lock(Lock::Held, LockWait::Never).mode(mode(source.path()));
        let writer = options.open(new.draft())?;
        Ok(Copy { source, writer, group: Batch::new(), lines: Vec::new(), records: 0 })
    }

    fn run(mut self, mut records: Records<'_>, skips_damage: bool) -> Result<Copied, Stop> {
        let mut bytes = 0;
        // What is damaged is told up to the end, but nothing more is copied for nothing.
        let mut is_in_vain = false;
        while let Some(step) = records.next(&mut || Ok(()))? {
            match step {
                Step::Record(mut line) if !is_in_vain => {
                    let place = (line.path().to_owned(), line.mark().start.offset);
                    let Some(payload) = line.payload() else { continue };
                    bytes += payload.len();
                    self.group.add_json(payload)?;
                    self.lines.push(place);
                }
                Step::Damage => is_in_vain = !skips_damage,
                _ => {}
            }
            if bytes >= GROUP_BYTES {
                bytes = 0;
                self.append()?;
            }
            if interrupt::is_requested() {
                return Ok(Copied { records: 0, skipped_bytes: 0, exit: Exit::Interrupted });
            }
        }
        self.append()?;
        let Walked { exit, damaged_bytes } = records.finish()?;
        if exit == Exit::Damage && !skips_damage {
            say::message("nothing written");
            say::hint("`--skip-damage` leaves damage out and goes on");
        } else {
            self.writer.close()?;
        }
        Ok(Copied { records: self.records, skipped_bytes: damaged_bytes, exit })
    }

    fn append(&mut self) -> Result<(), Stop> {
        let (appended, result) = self.writer.append_all(&self.group);
        self.records += appended.len() as u64;
        if let Err(error) = result {
            return Err(match (error.kind(), self.lines.get(appended.len())) {
                (ErrorKind::SealedPayload, Some((path, offset))) => {
                    let path = Shown(self.source.name(path).display());
                    say::message(format_args!("cannot unseal `{path}` at byte {offset}: the record itself ends like a sealed line"));
                    Stop::Told
                }
                _ => error.into(),
            });
        }
        self.group = Batch::new();
        self.lines.clear();
        Ok(())
    }
}

/// The copy may be read by whoever may read the journal.
#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;

    const PRIVATE: u32 = 0o600;
    fs::metadata(path).map_or(PRIVATE, |found| found.permissions().mode() & 0o777)
}

fn explained(error: Error, args: &Args, form: Format) -> Stop {
    let path = Path::new(&args.from);
    if error.kind() == ErrorKind::NotAFile && path.is_dir() {
        say::failure(&Failure::Journal(error));
        let command = if form == Format::Sealed { "seal" } else { "unseal" };
        say::hint(format_args!("`untorn {command} {0}/NAME.jsonl OUT` takes one journal at a time", text::quoted(path)));
        return Stop::Told;
    }
    error.into()
}
