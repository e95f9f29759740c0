//! `untorn completions` and `untorn man`: what a shell and a reader want to know of the command line, made from its own description.

use std::io::{self, Write};

use clap::{Command, CommandFactory};
use clap_complete::Shell;

use crate::{
    args::Line,
    exit::{Exit, Stop, help},
    output::Output,
};

/// Print a script that completes this command in a shell
///
/// In bash, for example: source <(untorn completions bash)
#[derive(Debug, clap::Args)]
#[command(after_help = help())]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Print the manual page
///
/// To read it at once: untorn man | man -l -
#[derive(Debug, clap::Args)]
#[command(after_help = help())]
pub(crate) struct Man {}

pub(crate) fn completions(command: &Completions) -> Result<Exit, Stop> {
    let mut script = Vec::new();
    clap_complete::generate(command.shell, &mut Line::command(), "untorn", &mut script);
    print(&script)
}

/// One page: what all commands have in common, and then a section for each.
pub(crate) fn man(_: &Man) -> Result<Exit, Stop> {
    let page = page().map_err(|error| Stop::system("make the manual page", error))?;
    print(&page)
}

fn page() -> io::Result<Vec<u8>> {
    let mut line = Line::command();
    line.build();
    let mut page = Vec::new();
    let common = clap_mangen::Man::new(line.clone());
    common.render_title(&mut page)?;
    common.render_name_section(&mut page)?;
    common.render_synopsis_section(&mut page)?;
    common.render_description_section(&mut page)?;
    common.render_options_section(&mut page)?;
    for command in line.get_subcommands() {
        writeln!(page, ".SH {}", command.get_name().to_uppercase())?;
        page.extend_from_slice(section(command)?.replace(".SH ", ".SS ").as_bytes());
    }
    common.render_extra_section(&mut page)?;
    common.render_version_section(&mut page)?;
    Ok(page)
}

fn section(command: &Command) -> io::Result<String> {
    let own = command.clone().mut_args(|option| {
        let is_common = option.is_global_set() || option.get_id() == "help";
        option.hide(is_common)
    });
    let manual = clap_mangen::Man::new(own);
    let mut section = Vec::new();
    manual.render_synopsis_section(&mut section)?;
    manual.render_description_section(&mut section)?;
    manual.render_options_section(&mut section)?;
    Ok(String::from_utf8_lossy(&section).into_owned())
}

fn print(text: &[u8]) -> Result<Exit, Stop> {
    let mut output = Output::new();
    output.line(text.trim_ascii_end())?;
    output.flush()?;
    Ok(Exit::Done)
}
