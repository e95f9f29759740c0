//! The command on a terminal: its width, its colours, what is typed, and what must never reach it.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::fd::OwnedFd,
    process::{Command, Stdio},
};

use nix::pty::{Winsize, openpty};

use crate::support::{Place, append, cat, skipped, untorn};

const HOSTILE: &str = "e\u{1b}]0;owned\u{7}\n\u{9b}31m\u{202e}.jsonl";

/// A terminal that somebody looks at, and the side of it that commands see.
fn terminal(name: &str, columns: u16) -> Option<(File, OwnedFd)> {
    let size = Winsize { ws_row: 40, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    match openpty(&size, None) {
        Ok(pty) => Some((File::from(pty.master), pty.slave)),
        Err(error) => {
            skipped(name, &format!("there is no terminal to be had: {error}"));
            None
        }
    }
}

/// What a command that has a terminal for its output leaves on it.
fn shown(name: &str, columns: u16, mut command: Command) -> Option<(Option<i32>, String)> {
    let (mut master, slave) = terminal(name, columns)?;
    command.stdin(Stdio::null()).stdout(slave.try_clone().unwrap()).stderr(slave).env_remove("NO_COLOR").env("TERM", "xterm");
    let mut child = command.spawn().unwrap();
    // The command has copies of the terminal, which would never end otherwise.
    drop(command);
    let mut bytes = Vec::new();
    // A terminal that nobody has any more is an error to read from.
    let _ = master.read_to_end(&mut bytes);
    Some((child.wait().unwrap().code(), String::from_utf8(bytes).unwrap()))
}

/// Without colours and styles: the only sequences that may be there.
fn without_styles(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        match digits.strip_prefix('m') {
            Some(rest) => plain += rest,
            None => plain = format!("{plain}\u{1b}[{part}"),
        }
    }
    plain
}

fn assert_harmless(text: &str, arguments: &[&str]) {
    let plain = without_styles(text);
    let harmful = plain.chars().find(|c| (c.is_control() && !"\r\n".contains(*c)) || matches!(c, '\u{202a}'..='\u{202e}'));
    assert_eq!(harmful, None, "{arguments:?}: {plain:?}");
}

/// A usage error gave an argument to the terminal as it was: whoever chose a file's name could set the title, or clear the screen.
#[test]
fn no_argument_name_or_content_touches_the_terminal() {
    let place = Place::new();
    append(&place.join(HOSTILE), b"{\"n\":1}\n");
    fs::write(place.join(format!("torn{HOSTILE}")), "{\"a\":1}\n{\"b\":\"\u{1b}[31m\",\u{7}\n\u{1b}[2J{\"n\":1}\u{9b}31m").unwrap();
    fs::write(place.join(format!("notes{HOSTILE}")), "\u{1b}[31m no journal\n").unwrap();
    fs::create_dir(place.join(format!("dir{HOSTILE}"))).unwrap();
    let commands: [&[&str]; 34] = [
        &[],
        &["--color"],
        &["--x"],
        &["append", "--sync"],
        &["cat"],
        &["cat", "--last"],
        &["tail"],
        &["tail", "-n"],
        &["verify"],
        &["verify", "-r"],
        &["verify", "-l"],
        &["verify", "--strict", "--no-content"],
        &["repair"],
        &["repair", "-r"],
        &["repair", "--undo"],
        &["repair", "--output"],
        &["stat"],
        &["stat", "--checkpoints"],
        &["rotate", "--dry-run"],
        &["archive", "--dry-run", "--keep-last", "0"],
        &["archive", "--keep-last"],
        &["prune", "--dry-run", "--no-consumers", "--keep-records", "1"],
        &["prune", "--no-consumers", "--keep-age"],
        &["prune", "--keep-records", "1", "--checkpoints"],
        &["seal"],
        &["seal", "session.jsonl"],
        &["seal", "--skip-damage", "--x"],
        &["unseal"],
        &["checkpoint", "show"],
        &["checkpoint", "reset"],
        &["checkpoint"],
        &["snapshot", "show"],
        &["completions"],
        &["man"],
    ];
    for arguments in commands {
        for name in ["", "torn", "notes", "dir", "missing", "--"] {
            let mut command = untorn();
            command.current_dir(place.join("")).args(arguments).arg(format!("{name}{HOSTILE}"));
            let Some((code, text)) = shown("no_argument_name_or_content_touches_the_terminal", 80, command) else { return };
            assert!(matches!(code, Some(0..=2)), "{arguments:?} {name}: {code:?} {text}");
            // Records themselves go out as they are.
            if !matches!(arguments, ["cat" | "tail"]) {
                assert_harmless(&text, arguments);
            }
        }
    }
}

#[test]
fn pictures_fit_terminals_of_any_width() {
    let place = Place::new();
    let long = format!("{{\"text\":\"{}\"}}\n{{\"cut\":\"{}\n{{\"n\":1}}\n", "é漢".repeat(300), "x".repeat(5000));
    fs::write(place.path(), long).unwrap();
    for columns in [0, 1, 20, 40, 80, 200, 1000] {
        let mut command = untorn();
        command.arg("verify").arg("session.jsonl").current_dir(place.join(""));
        let Some((code, text)) = shown("pictures_fit_terminals_of_any_width", columns, command) else { return };
        assert_eq!(code, Some(1), "{text}");
        let pictured = without_styles(&text);
        let widest = pictured.lines().filter(|line| line.contains(" | ")).map(|line| line.trim_end().chars().count()).max().unwrap();
        let allowed = if columns == 0 { 80 } else { usize::from(columns).clamp(40, 160) };
        assert!(widest <= allowed && widest > allowed / 2, "{widest} of {columns} columns");
    }
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let place = Place::new();
    fs::write(place.path(), "torn").unwrap();
    for (arguments, variable, coloured) in [
        (&["verify"][..], None, true),
        (&["verify"], Some(("NO_COLOR", "1")), false),
        (&["verify"], Some(("TERM", "dumb")), false),
        (&["verify", "--color", "never"], None, false),
        (&["verify", "--color", "always"], Some(("NO_COLOR", "1")), true),
    ] {
        let Some((master, slave)) = terminal("colours_are_for_terminals_that_want_them", 80) else { return };
        let mut command = untorn();
        command.args(arguments).arg(place.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(slave);
        // A machine that tests for others says so in `CI`, and then colours are for everybody.
        command.env_remove("NO_COLOR").env_remove("CI").env("TERM", "xterm").envs(variable);
        let mut child = command.spawn().unwrap();
        drop(command);
        let (mut master, mut bytes) = (master, Vec::new());
        let _ = master.read_to_end(&mut bytes);
        assert_eq!(child.wait().unwrap().code(), Some(1));
        assert_eq!(bytes.contains(&0x1b), coloured, "{arguments:?} {variable:?}");
    }
}

/// Records are typed, and ^D ends them; `<&-` and a terminal that is gone are an end too.
#[test]
fn records_can_be_typed() {
    let place = Place::new();
    let Some((mut master, slave)) = terminal("records_can_be_typed", 80) else { return };
    let mut command = untorn();
    command.arg("append").arg(place.path()).stdin(slave).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    drop(command);
    master.write_all(b"{\"n\":1}\n{\"n\":2}\n\x04").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(cat(&place.path()), b"{\"n\":1}\n{\"n\":2}\n");
}
