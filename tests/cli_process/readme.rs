//! What the README shows is what happens: each line behind a `$` is given to a shell, and what it prints is compared.

use std::{
    env,
    fmt::Write,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use crate::support::{is_installed, skipped};

/// The sessions that the README shows.
fn sessions(readme: &str) -> impl Iterator<Item = &str> {
    readme.split("```console\n").skip(1).map(|rest| rest.split("```").next().unwrap())
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
    for program in ["bash", "jq"] {
        if !is_installed(program) {
            return skipped("every_session_in_the_readme_prints_what_it_shows", &format!("there is no {program}"));
        }
    }
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let mut count = 0;
    for session in sessions(&readme) {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(without_empty_lines(&played(session, dir.path())), without_empty_lines(session));
        count += 1;
    }
    assert!(count > 0, "the README shows no session");
}
