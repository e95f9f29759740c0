//! The tables of `README.md` name tests that exist, and miss no fault.

use std::{collections::BTreeSet, fs, path::Path};

const README: &str = include_str!("README.md");
const FUZZ: &str = "fuzz target";

/// The files that a name may stand for.
fn files_of(name: &str) -> Vec<String> {
    let name = name.trim_end_matches(".rs");
    match name.split_once('/') {
        None => vec![format!("tests/crash/{name}.rs")],
        Some(("..", name)) => vec![format!("tests/{name}.rs"), format!("tests/{name}/main.rs")],
        Some(("src", _)) => vec![format!("{name}.rs")],
        Some(_) => vec![format!("tests/{name}.rs")],
    }
}

/// Whether `file::test`, or a file, or a fuzz target is there.
fn is_there(name: &str, may_be_a_target: bool) -> bool {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (file, test) = name.split_once("::").unwrap_or((name, ""));
    let texts: Vec<_> = files_of(file).iter().filter_map(|file| fs::read_to_string(root.join(file)).ok()).collect();
    let is_target = may_be_a_target && root.join(format!("fuzz/targets/{name}.rs")).exists();
    is_target || texts.iter().any(|text| test.is_empty() || text.contains(&format!("fn {test}(")))
}

/// The words between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// F01 to F60: each has a row with a verdict and a test, and every test that a table names is there.
#[test]
fn the_tables_name_every_fault_and_only_tests_that_exist() {
    let rows = README.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")).map(|row| row.split(" | ").collect::<Vec<_>>());
    let mut faults = BTreeSet::new();
    let mut named = 0;
    for row in rows {
        let (first, last) = (row[0], row[row.len() - 1]);
        let is_fault = first.len() == 3 && first.starts_with('F') && first[1..].parse::<u8>().is_ok();
        if !is_fault && !first.contains("(`") {
            continue;
        }
        assert!(!is_fault || (row.len() == 4 && !row[2].is_empty() && faults.insert(first)), "{row:?}");
        let tests: Vec<_> =
            quoted(last).filter(|name| !name.contains(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || "_:/.".contains(c)))).collect();
        assert!(!tests.is_empty(), "{first} names no test");
        for name in tests {
            assert!(is_there(name, last.contains(FUZZ)), "{first}: there is no `{name}`");
            named += 1;
        }
    }
    assert_eq!(faults, (1..=60).map(|n| format!("F{n:02}")).collect::<Vec<_>>().iter().map(String::as_str).collect());
    println!("tables of faults and bugs: {named} tests named, all there");
}
