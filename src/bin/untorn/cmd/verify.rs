//! `untorn verify`
use crate::exit::{Exit, Stop, help};
/// Check journals
#[derive(Debug, clap::Args)]
#[command(after_help = help())]
pub(crate) struct Args {}
pub(crate) fn run(_: &Args) -> Result<Exit, Stop> { Ok(Exit::Done) }
