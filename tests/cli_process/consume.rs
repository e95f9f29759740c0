//! `consume`: every record reaches the command at least once, whatever dies.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::support::{Place, Ran, append, run, signal, untorn};

fn consume(place: &Place, options: &[&str], script: &str) -> Command {
    let mut command = untorn();
    command.arg("consume").arg(place.path()).args(["--name", "shell", "--checkpoints"]).arg(place.join("state")).args(options);
    command.args(["--", "sh", "-c", script]).current_dir(place.path().parent().unwrap());
    command
}

fn ran(place: &Place, options: &[&str], script: &str) -> Ran {
    run(&mut consume(place, options, script), b"")
}

fn numbers(count: u64) -> String {
    (1..=count).map(|number| format!("{{\"n\":{number}}}\n")).collect()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Waits until a file holds something.
fn wait_for(path: &Path, what: &str) {
    wait_until(|| read(path).contains(what), what);
}

fn wait_until(is_so: impl Fn() -> bool, what: &str) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "still waiting for {what:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn records_are_given_once_and_only_new_ones_after_that() {
    let place = Place::new();
    append(&place.path(), numbers(5).as_bytes());
    let script = "cat >> out; echo \"$UNTORN_FIRST_SEQ-$UNTORN_LAST_SEQ ${UNTORN_PATH##*/}\" >> batches";
    let once = ran(&place, &["--once", "--batch", "2"], script);
    assert_eq!((once.code, &*once.stderr), (Some(0), ""));
    assert_eq!(read(&place.join("out")), numbers(5));
    assert_eq!(read(&place.join("batches")), "1-2 session.jsonl\n3-4 session.jsonl\n5-5 session.jsonl\n");
    append(&place.path(), b"{\"n\":6}\n");
    let once = ran(&place, &["--once", "--sealed"], "cat > out");
    assert_eq!((once.code, &*once.stderr), (Some(0), ""));
    assert!(read(&place.join("out")).starts_with("{\"n\":6,\"_seq\":6,\"_crc\":\""));
    let once = ran(&place, &["--once"], "echo run >> never");
    assert_eq!(once.code, Some(0));
    assert!(!place.join("never").exists());
}

#[test]
fn a_batch_that_failed_is_given_again_as_it_was() {
    let place = Place::new();
    append(&place.path(), numbers(3).as_bytes());
    let script = "cat >> tries; echo >> tries; [ $(grep -c '^$' tries) -ge 3 ]";
    let once = ran(&place, &["--once"], script);
    assert_eq!(once.code, Some(0), "{}", once.stderr);
    assert_eq!(read(&place.join("tries")), format!("{}\n", numbers(3)).repeat(3));
    assert_eq!(once.stderr, "untorn: shell: `sh` failed with exit status: 1\n".repeat(2));
}

#[test]
fn a_command_that_never_succeeds_is_given_up_with_once() {
    let place = Place::new();
    append(&place.path(), numbers(3).as_bytes());
    let once = ran(&place, &["--once", "--batch", "1"], "cat >> seen; exit 3");
    assert_eq!(once.code, Some(2));
    assert_eq!(read(&place.join("seen")), "{\"n\":1}\n".repeat(5));
    assert!(once.stderr.ends_with("untorn: shell: given up after 5 tries\n"), "{}", once.stderr);
    assert_eq!(ran(&place, &["--once"], "cat > out").code, Some(0));
    assert_eq!(read(&place.join("out")), numbers(3));
}

#[test]
fn damage_is_told_and_the_records_behind_it_are_given() {
    let place = Place::new();
    fs::write(place.path(), "{\"n\":1}\n{\"torn\n{\"n\":2}\n").unwrap();
    let once = ran(&place, &["--once"], "cat > out");
    assert_eq!(once.code, Some(1));
    assert!(once.stderr.contains("session.jsonl:2:1: error[not-json]: 7 bytes skipped (byte 8)"), "{}", once.stderr);
    assert_eq!(read(&place.join("out")), numbers(2));
}

#[test]
fn what_cannot_be_run_or_is_missing_is_a_failure() {
    let place = Place::new();
    assert_eq!(ran(&place, &["--once"], "cat").code, Some(2));
    append(&place.path(), numbers(1).as_bytes());
    let mut command = untorn();
    command.arg("consume").arg(place.path()).args(["--once", "--name", "shell", "--checkpoints"]).arg(place.join("state"));
    let ran = run(command.args(["--", "./no-such-program"]), b"");
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.starts_with("untorn: cannot run `./no-such-program`: No such file"), "{}", ran.stderr);
}

/// While the batch of one journal fails again and again, and waits longer each time, the records of another one went on waiting too.
#[test]
fn a_journal_whose_batch_fails_keeps_no_other_waiting() {
    let place = Place::new();
    let (bad, good) = (place.join("bad.jsonl"), place.join("good.jsonl"));
    append(&bad, numbers(3).as_bytes());
    append(&good, numbers(1).as_bytes());
    let mut command = untorn();
    command.args(["consume", "--name", "shell", "--batch", "2", "--every", "10ms", "--checkpoints"]).arg(place.join("state")).args([&bad, &good]);
    let script = "case $UNTORN_PATH in *bad*) echo x >> tries; [ -e heal ] || exit 1;; esac; cat >> \"got-${UNTORN_PATH##*/}\"";
    command.args(["--", "sh", "-c", script]).current_dir(place.path().parent().unwrap());
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for(&place.join("tries"), "x\nx\nx\n");
    for number in 2..=4 {
        append(&good, format!("{{\"n\":{number}}}\n").as_bytes());
        wait_for(&place.join("got-good.jsonl"), &numbers(number));
    }
    assert_eq!(read(&place.join("got-bad.jsonl")), "");
    fs::write(place.join("heal"), "").unwrap();
    wait_for(&place.join("got-bad.jsonl"), &numbers(3));
    signal(&child, "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(read(&place.join("got-bad.jsonl")), numbers(3), "in order, and once");
    assert_eq!(read(&place.join("got-good.jsonl")), numbers(4));
}

/// While the records of another journal waited, a batch that failed was tried five times in a row without a pause, and given up.
#[test]
fn a_batch_that_fails_beside_another_one_pauses_between_its_tries() {
    let place = Place::new();
    let (short, long) = (place.join("short.jsonl"), place.join("long.jsonl"));
    append(&short, numbers(1).as_bytes());
    append(&long, numbers(7).as_bytes());
    let mut command = untorn();
    command.args(["consume", "--once", "--name", "shell", "--batch", "2", "--checkpoints"]).arg(place.join("state")).args([&short, &long]);
    let whole_only = "echo \"${UNTORN_PATH##*/} $UNTORN_FIRST_SEQ\" >> tries; [ $(wc -l) -eq 2 ]";
    command.args(["--", "sh", "-c", whole_only]).current_dir(place.path().parent().unwrap());
    assert_eq!(run(&mut command, b"").code, Some(2));
    let tries = read(&place.join("tries"));
    let failed: Vec<&str> = tries.lines().filter(|given| !["long.jsonl 1", "long.jsonl 3", "long.jsonl 5"].contains(given)).collect();
    assert_eq!(failed, ["short.jsonl 1", "long.jsonl 7"].repeat(5)[..9], "each waits while the other one is tried");
}

/// What failed is tried again with `--once` too, and what is behind it is given after it.
#[test]
fn once_goes_on_behind_a_batch_that_failed_first() {
    let place = Place::new();
    append(&place.path(), numbers(4).as_bytes());
    let once = ran(&place, &["--once", "--batch", "1"], "[ -e tried ] || { touch tried; exit 1; }; cat >> out");
    assert_eq!((once.code, &*once.stderr), (Some(0), "untorn: shell: `sh` failed with exit status: 1\n"));
    assert_eq!(read(&place.join("out")), numbers(4));
}

/// How far consumers have come is told beside what a journal holds.
#[test]
fn stat_tells_how_far_consumers_have_come() {
    let place = Place::new();
    append(&place.path(), numbers(2).as_bytes());
    assert_eq!(ran(&place, &["--once"], "cat > out").code, Some(0));
    append(&place.path(), numbers(3).as_bytes());
    let stat = |option: &[&str]| {
        let told = run(untorn().arg("stat").args(option).arg(place.path()).arg("--checkpoints").arg(place.join("state")), b"");
        assert_eq!(told.code, Some(0));
        String::from_utf8(told.stdout).unwrap() + &told.stderr
    };
    let told: serde_json::Value = serde_json::from_str(&stat(&["--json"])).unwrap();
    let consumer = &told["consumers"][0];
    assert_eq!((&consumer["name"], &consumer["seq"], &consumer["behind"]), (&"shell".into(), &2.into(), &3.into()), "{told}");
    let line = stat(&[]).lines().find(|line| line.contains("consumer")).map(ToOwned::to_owned).unwrap();
    assert!(line.contains("shell  #2  3 records behind   saved "), "{line}");
}

/// SIGTERM and ^C let the command finish the batch that it has, and acknowledge it.
#[test]
fn a_signal_finishes_the_batch_at_hand() {
    for (name, code) in [("TERM", 0), ("INT", 130)] {
        let place = Place::new();
        append(&place.path(), numbers(2).as_bytes());
        let script = "cat > got; echo started > started; while ! [ -e go ]; do sleep 0.01; done; echo done > done";
        let mut child = consume(&place, &["--batch", "1"], script).stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        wait_for(&place.join("started"), "started");
        signal(&child, name);
        // Only then it is sure that the signal was met while the command ran.
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert_eq!(line, "untorn: interrupted; finishing the batch at hand, ^C again ends it at once\n");
        fs::write(place.join("go"), "").unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code));
        assert_eq!(read(&place.join("done")), "done\n");
        assert_eq!(ran(&place, &["--once"], "cat > rest").code, Some(0));
        assert_eq!(read(&place.join("rest")), "{\"n\":2}\n");
    }
}

/// A second ^C ended `consume` alone, and the command went on without it, beside the one that the next start ran.
#[test]
fn a_second_interrupt_ends_the_command_and_what_it_started() {
    let place = Place::new();
    append(&place.path(), numbers(1).as_bytes());
    let script = "cat > got; (while :; do sleep 0.01; done) & echo $$ $! > started; wait";
    let mut child = consume(&place, &[], script).stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for(&place.join("started"), "\n");
    signal(&child, "INT");
    // Once that is said, the next one is the second.
    let mut said = BufReader::new(child.stderr.take().unwrap());
    said.read_line(&mut String::new()).unwrap();
    signal(&child, "INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    for pid in read(&place.join("started")).split_whitespace() {
        // A process that has ended and that nobody has waited for has no arguments any more.
        wait_until(|| read(Path::new(&format!("/proc/{pid}/cmdline"))).is_empty(), "its end");
    }
    assert_eq!(ran(&place, &["--once"], "cat > rest").code, Some(0));
    assert_eq!(read(&place.join("rest")), numbers(1), "it was not acknowledged");
}

/// The end to end promise: appended while both the command and `consume` are killed again and again, across a rotation, every record arrives at
/// least once, and `_seq` tells the repeats.
#[test]
fn nothing_is_lost_whatever_is_killed() {
    const RECORDS: u64 = 200;
    let place = Place::new();
    fs::write(place.join("got"), "").unwrap();
    // It dies at random, in the middle of a batch too.
    let script = "while read -r line; do echo \"$line\" >> got; [ $(od -An -N1 -tu1 /dev/urandom) -lt 3 ] && kill -9 $$; done; exit 0";
    let start = || -> Child {
        consume(&place, &["--sealed", "--batch", "10", "--every", "10ms"], script).stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut child = start();
    let got = || -> BTreeMap<u64, (u64, usize)> {
        let mut got: BTreeMap<u64, (u64, usize)> = BTreeMap::new();
        for line in read(&place.join("got")).lines() {
            let Ok(line) = serde_json::from_str::<serde_json::Value>(line) else { continue };
            let (seq, n) = (line["_seq"].as_u64().unwrap(), line["n"].as_u64().unwrap());
            let (first, times) = got.entry(seq).or_insert((n, 0));
            assert_eq!(*first, n, "a number stands for one record");
            *times += 1;
        }
        got
    };
    for part in 0..10 {
        let records: String = (1..=RECORDS / 10).map(|number| format!("{{\"n\":{}}}\n", part * RECORDS / 10 + number)).collect();
        assert_eq!(append(&place.path(), records.as_bytes()).code, Some(0));
        if part == 4 {
            fs::rename(place.path(), place.join("session.000001.jsonl")).unwrap();
        }
        let before = got().len() as u64;
        while (got().len() as u64) < (before + 5).min(RECORDS) && got().len() as u64 != (part + 1) * RECORDS / 10 {
            std::thread::sleep(Duration::from_millis(2));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        child = start();
    }
    while (got().len() as u64) < RECORDS {
        std::thread::sleep(Duration::from_millis(10));
    }
    signal(&child, "TERM");
    child.wait().unwrap();
    let got = got();
    assert!(got.keys().copied().eq(1..=RECORDS), "{got:?}");
    assert!(got.iter().all(|(seq, (n, _))| seq == n));
}

/// One journal that cannot be read kept those beside it from being consumed with `--once`.
#[test]
fn a_journal_that_cannot_be_read_keeps_no_other_from_being_consumed() {
    let place = Place::new();
    append(&place.path(), numbers(2).as_bytes());
    fs::create_dir(place.join("a.jsonl")).unwrap();
    let mut command = untorn();
    command.arg("consume").arg(place.path().parent().unwrap()).args(["--once", "--name", "shell", "--checkpoints"]).arg(place.join("state"));
    let ran = run(command.args(["--", "sh", "-c", "cat > out"]).current_dir(place.path().parent().unwrap()), b"");
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert_eq!(ran.stderr.matches("a.jsonl").count(), 1, "{}", ran.stderr);
    assert_eq!(read(&place.join("out")), numbers(2));
}
