//! Files that others wrote go in and come out byte for byte, and other tools read what was written.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::support::{Place, assert_clean, is_installed, run, skipped, untorn};

fn files() -> Vec<PathBuf> {
    let mut dirs = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/corpus")];
    let mut files = Vec::new();
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            match entry.path() {
                path if path.is_dir() => dirs.push(path),
                path if path.extension().is_some_and(|extension| extension != "md") => files.push(path),
                _ => {}
            }
        }
    }
    files.sort();
    assert!(files.len() > 80);
    files
}

/// The payloads of a file, one per line; `None` if some line is no JSON.
fn payloads(path: &Path) -> Option<Vec<u8>> {
    let bytes = fs::read(path).unwrap();
    let mut payloads = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()) {
        serde_json::from_slice::<serde::de::IgnoredAny>(line).ok()?;
        payloads.extend_from_slice(line);
        payloads.push(b'\n');
    }
    Some(payloads)
}

#[test]
fn what_others_wrote_comes_out_byte_for_byte() {
    for path in files() {
        let name = path.display();
        let bytes = fs::read(&path).unwrap();
        for format in ["sealed", "plain"] {
            let place = Place::new();
            let ran = run(untorn().args(["append", "--sync", "never", "--format", format]).arg(place.path()), &bytes);
            let Some(payloads) = payloads(&path) else {
                assert_eq!(ran.code, Some(1), "{name}");
                continue;
            };
            assert_eq!((ran.code, &*ran.stderr), (Some(0), ""), "{name}");
            let ran = run(untorn().arg("cat").arg(place.path()), b"");
            assert_eq!((ran.code, &*ran.stderr), (Some(0), ""), "{name}");
            assert!(ran.stdout == payloads, "{name} in {format} form");
        }
    }
}

/// P9: any tool reads a sealed journal as it stands.
#[test]
fn other_readers_take_a_sealed_journal_as_it_stands() {
    const PYTHON: &str = "
import json, sys
def refuse(name): raise ValueError(name)
lines = open(sys.argv[1], 'rb').read().decode('utf-8', 'strict').split('\\n')
assert lines.pop() == ''
for line in lines: assert json.loads(line, parse_constant=refuse)['_seq'] > 0
print(len(lines))";
    const NODE: &str = "
const lines = require('fs').readFileSync(process.argv[1], 'utf8').split('\\n');
if (lines.pop() !== '' || !lines.every(line => JSON.parse(line)._seq > 0)) throw 'not sealed';
console.log(lines.length);";
    let place = Place::new();
    let mut records = 0;
    for payloads in files().iter().filter_map(|path| payloads(path)) {
        let ran = run(untorn().args(["append", "--sync", "never"]).arg(place.path()), &payloads);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        records += payloads.iter().filter(|byte| **byte == b'\n').count();
    }
    assert_clean(&place.path());
    for (program, arguments) in [("jq", &["-s", "map(select(._seq > 0)) | length"][..]), ("python3", &["-c", PYTHON]), ("node", &["-e", NODE])] {
        if !is_installed(program) {
            skipped("other_readers_take_a_sealed_journal_as_it_stands", &format!("there is no {program}"));
            continue;
        }
        let ran = run(Command::new(program).args(arguments).arg(place.path()), b"");
        assert_eq!(ran.stderr, "", "{program}");
        assert_eq!(String::from_utf8(ran.stdout).unwrap().trim(), records.to_string(), "{program}");
    }
}
