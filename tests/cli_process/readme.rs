//! What the README and the guide show is what happens: each line behind a `$` is given to a shell, and what it prints is compared.

use std::{
    env,
    fmt::Write,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use crate::support::{is_installed, skipped};

/// The sessions that a page shows.
fn sessions(page: &str) -> impl Iterator<Item = &str> {
    page.split("```console\n").skip(1).map(|rest| rest.split("```").next().unwrap())
}

/// Runs the commands of a session in one directory, and gives it back with what they print now.
fn played(session: &str, dir: &Path) -> String {
    let untorn = Path::new(env!("CARGO_BIN_EXE_untorn")).parent().unwrap();
    let path = env::join_paths([untorn.to_owned()].into_iter().chain(env::split_paths(&env::var_os("PATH").unwrap()))).unwrap();
    let commands = session.lines().filter_map(|line| line.strip_prefix("$ "));
    commands.fold(String::new(), |mut played, command| {
        let script = format!("{{ {command}\n}} 2>&1");
        let shell = Command::new("bash").arg("-c").arg(script).current_dir(dir).env("PATH", &path).stdin(Stdio::null()).output().unwrap();
        writeln!(played, "$ {command}\n{}", String::from_utf8_lossy(&shell.stdout)).unwrap();
        played
    })
}

/// Empty lines are there for whoever reads.
fn without_empty_lines(text: &str) -> String {
    text.lines().filter(|line| !line.is_empty()).fold(String::new(), |text, line| text + line + "\n")
}

#[test]
fn every_session_in_the_readme_prints_what_it_shows() {
    if let Some(missing) = missing(&["bash", "jq"]) {
        return skipped("every_session_in_the_readme_prints_what_it_shows", &missing);
    }
    let shown = sessions_of("README.md");
    for session in &shown {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(without_empty_lines(&played(session, dir.path())), without_empty_lines(session));
    }
    assert!(!shown.is_empty(), "the README shows no session");
}

/// The sessions of the page go on from one to the next.
#[test]
fn the_command_in_pipes_prints_what_the_guide_shows() {
    if let Some(missing) = missing(&["bash", "jq", "head", "xargs", "find"]) {
        return skipped("the_command_in_pipes_prints_what_the_guide_shows", &missing);
    }
    let session = sessions_of("src/guide/pipes.md").concat();
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(without_empty_lines(&played(&session, dir.path())), without_empty_lines(&session));
    for program in ["jq", "head", "xargs", "find"] {
        assert!(session.contains(program), "the guide shows no {program}");
    }
}

fn sessions_of(page: &str) -> Vec<String> {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
    sessions(&page).map(str::to_owned).collect()
}

fn missing(programs: &[&str]) -> Option<String> {
    programs.iter().find(|program| !is_installed(program)).map(|program| format!("there is no {program}"))
}
