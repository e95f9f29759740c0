//! Consuming: each record at least once, and the checkpoint never ahead of what was acknowledged or of what is durable.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use untorn::{
    Consumer, ConsumerOptions, Delivery, Error, ErrorKind, FollowEvent, Reader, Restored, Start, Ticket, Writer,
    sim::{Bounds, Fault, How, OpKind, OpMatch, SimDisk},
};

const A: &str = "dir/a.jsonl";
const B: &str = "dir/b.jsonl";
const STORE: &str = "state";

fn options(disk: &SimDisk) -> ConsumerOptions {
    let mut options = Consumer::options("indexer", STORE);
    options.disk(disk).save_every(Duration::from_secs(3600));
    options
}

fn open(disk: &SimDisk) -> Consumer {
    options(disk).file(A).open().expect("the consumer opens")
}

fn writer(disk: &SimDisk, path: &str) -> Writer {
    let mut options = Writer::options();
    options.durability(untorn::Durability::Os).disk(disk);
    options.open(path).expect("the journal opens")
}

/// What a consumer gives until it has nothing more: each delivery as a short text, with the ticket of a record.
fn drain(consumer: &mut Consumer) -> Vec<(String, Option<Ticket>)> {
    let mut given = Vec::new();
    while let Some(delivery) = consumer.next(Duration::ZERO).expect("consuming does not fail") {
        given.push(match delivery {
            Delivery::Record(_, record, ticket) => (String::from_utf8(record.value.as_bytes().to_vec()).unwrap(), Some(ticket)),
            Delivery::Restored(_, restored) => (format!("[{restored:?}]"), None),
            Delivery::Event(_, FollowEvent::Replaced { resumed, .. }) => (format!("[replaced {resumed}]"), None),
            Delivery::Event(_, FollowEvent::Truncated { from, .. }) => (format!("[truncated {from}]"), None),
            Delivery::Event(_, FollowEvent::Rotated { .. }) => ("[rotated]".to_owned(), None),
            Delivery::Event(_, FollowEvent::Stalled { oldest, records, .. }) => (format!("[stalled {:?} {records}]", oldest.seq), None),
            Delivery::Event(source, FollowEvent::Deleted) => (format!("[deleted {}]", source.path().display()), None),
            Delivery::SaveFailed(error) => (format!("[save failed {:?}]", error.kind()), None),
            other => panic!("{other:?}"),
        });
    }
    given
}

fn texts(given: &[(String, Option<Ticket>)]) -> Vec<&str> {
    given.iter().map(|(text, _)| &**text).collect()
}

/// The tickets, in the order of the records.
fn tickets(given: Vec<(String, Option<Ticket>)>) -> Vec<Option<Ticket>> {
    given.into_iter().filter_map(|(_, ticket)| ticket).map(Some).collect()
}

fn ack_all(given: Vec<(String, Option<Ticket>)>) {
    given.into_iter().filter_map(|(_, ticket)| ticket).for_each(Ticket::ack);
}

/// What comes after a restart.
fn again(disk: &SimDisk) -> Vec<String> {
    let mut consumer = open(&disk.kill());
    texts(&drain(&mut consumer)).into_iter().map(ToOwned::to_owned).collect()
}

fn with_numbers(count: u64) -> SimDisk {
    let disk = SimDisk::new();
    let mut writer = writer(&disk, A);
    for number in 1..=count {
        writer.append(&number).unwrap();
    }
    disk
}

/// S0-01, S0-02: after a clean stop only new records come.
#[test]
fn a_restart_gives_only_what_was_not_acknowledged() {
    let disk = with_numbers(3);
    let mut consumer = open(&disk);
    let given = drain(&mut consumer);
    assert_eq!(texts(&given), ["[New]", "1", "2", "3"]);
    ack_all(given);
    consumer.close().unwrap();
    let saved = String::from_utf8(disk.read_file("state/indexer/checkpoint.jsonl").unwrap()).unwrap();
    assert!(serde_json::from_str::<serde_json::Value>(&saved).unwrap()["_crc"].is_string());
    writer(&disk, A).append(&4).unwrap();
    assert_eq!(again(&disk), ["[Resumed]", "4"]);
}

/// S0-06, S0-07: what was given and not acknowledged comes again.
#[test]
fn handing_a_record_over_acknowledges_nothing() {
    let disk = with_numbers(3);
    let mut consumer = open(&disk);
    let mut given = tickets(drain(&mut consumer));
    given[0].take().unwrap().ack();
    consumer.save().unwrap();
    assert_eq!(again(&disk), ["[Resumed]", "2", "3"]);
}

/// S0-08, S0-09, S0-10: in whatever order three records are acknowledged, the checkpoint is the end of what is acknowledged without a gap.
#[test]
fn acknowledgements_in_any_order_move_the_checkpoint_to_the_first_gap() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let disk = with_numbers(3);
        let mut consumer = open(&disk);
        let mut given = tickets(drain(&mut consumer));
        let mut done = [false; 3];
        for at in order {
            given[at].take().unwrap().ack();
            done[at] = true;
            consumer.save().unwrap();
            let first_gap = done.iter().position(|done| !done).unwrap_or(3);
            let rest: Vec<String> = (first_gap + 1..=3).map(|number| number.to_string()).collect();
            let came = again(&disk);
            assert_eq!(came[1..], rest, "order {order:?}, up to {at}");
        }
    }
}

/// S0-48: a rejected record moves on and is counted, a released one comes again at once, a held or dropped one after a restart.
#[test]
fn a_ticket_says_what_becomes_of_its_record() {
    let disk = with_numbers(4);
    let mut consumer = open(&disk);
    let mut given = tickets(drain(&mut consumer));
    given[0].take().unwrap().reject();
    given[1].take().unwrap().release();
    let released = drain(&mut consumer);
    assert_eq!(texts(&released), ["2"]);
    ack_all(released);
    given[2].take().unwrap().hold();
    given[3].take().unwrap().ack();
    consumer.save().unwrap();
    let saved = String::from_utf8(disk.read_file("state/indexer/checkpoint.jsonl").unwrap()).unwrap();
    assert!(saved.contains("\"rejected\":1"), "{saved}");
    assert_eq!(texts(&drain(&mut consumer)), [""; 0]);
    assert_eq!(again(&disk), ["[Resumed]", "3", "4"]);
}

/// S0-11, S0-35: acknowledgements of what was read before a truncation do not count for what came after it.
#[test]
fn tickets_of_a_truncated_file_move_nothing() {
    for plain in [false, true] {
        let disk = SimDisk::new();
        if plain {
            disk.write_file(A, "1\n2\n3\n").unwrap();
        } else {
            let mut writer = writer(&disk, A);
            for number in 1..=3 {
                writer.append(&number).unwrap();
            }
        }
        let mut consumer = open(&disk);
        let old = tickets(drain(&mut consumer));
        disk.truncate(A, 0).unwrap();
        disk.append_raw(A, "7\n8\n9\n").unwrap();
        let new = drain(&mut consumer);
        assert_eq!(texts(&new), ["[truncated 0]", "7", "8", "9"]);
        old.into_iter().flatten().for_each(Ticket::ack);
        consumer.save().unwrap();
        assert_eq!(again(&disk)[1..], ["7", "8", "9"], "plain: {plain}");
        ack_all(new);
        consumer.save().unwrap();
        assert_eq!(again(&disk), ["[Resumed]"], "plain: {plain}");
    }
}

/// Records in flight are bounded, and the oldest is named.
#[test]
fn a_consumer_waits_when_too_much_is_in_flight() {
    let disk = with_numbers(5);
    let mut consumer = options(&disk).file(A).in_flight_max(2, 1 << 20).open().unwrap();
    let mut given = drain(&mut consumer);
    assert_eq!(texts(&given), ["[New]", "1", "2", "[stalled Some(1) 2]"]);
    given.remove(2).1.unwrap().ack();
    let more = drain(&mut consumer);
    assert_eq!(texts(&more), ["3", "[stalled Some(1) 2]"]);
    ack_all(given);
    ack_all(more);
    assert_eq!(texts(&drain(&mut consumer)), ["4", "5", "[stalled Some(4) 2]"]);
    let mut by_bytes = options(&disk.kill()).file(A).in_flight_max(100, 1).open().unwrap();
    assert_eq!(texts(&drain(&mut by_bytes)), ["[New]", "1", "[stalled Some(1) 1]"]);
}

/// S0-47, F39: at no moment is the checkpoint on the disk ahead of the journal on the disk.
#[test]
fn a_checkpoint_is_never_ahead_of_what_is_durable() {
    let disk = SimDisk::new();
    let mut writer = writer(&disk, A);
    let mut consumer = open(&disk);
    for number in 1..=4 {
        writer.append(&number).unwrap();
        ack_all(drain(&mut consumer));
        let ops = disk.ops();
        consumer.save().unwrap();
        assert!(disk.ops() > ops);
        for image in disk.crash_images(&Bounds::default()) {
            let mut options = options(&image);
            let mut consumer = options.file(A).open().unwrap();
            let given = drain(&mut consumer);
            let restored = texts(&given).into_iter().find(|text| text.starts_with('['));
            assert!(restored.is_none_or(|restored| restored == "[Resumed]" || restored == "[New]"), "{restored:?} in {:?}", image.origin());
        }
    }
}

/// Records that had been saved as consumed came again after a power cut: who saved them was killed before that was durable, and who came next took it
/// for saved. F22, F38.
#[test]
fn what_a_killed_consumer_saved_is_durable_before_another_calls_it_saved() {
    let prepared = || {
        let disk = with_numbers(3);
        let mut consumer = open(&disk);
        let mut given = tickets(drain(&mut consumer));
        given[0].take().unwrap().ack();
        consumer.save().unwrap();
        given.into_iter().flatten().for_each(Ticket::ack);
        (disk, consumer)
    };
    let (from, to) = {
        let (disk, mut consumer) = prepared();
        let from = disk.ops();
        consumer.save().unwrap();
        (from, disk.ops())
    };
    for op in from..to {
        let (disk, mut consumer) = prepared();
        let killed = Arc::new(Mutex::new(None));
        let taken = Arc::clone(&killed);
        disk.before(OpMatch::nth(op), move |disk| *taken.lock().unwrap() = Some(disk.kill()));
        consumer.save().unwrap();
        let disk = killed.lock().unwrap().take().unwrap();
        let mut next = open(&disk);
        ack_all(drain(&mut next));
        next.save().unwrap();
        assert_eq!(again(&disk.crash_now())[1..], [""; 0], "killed before op {op}");
    }
}

/// F38, F40, S0-21, S0-22: whichever call fails while saving, the old checkpoint or the new one is there, and the next try succeeds.
#[test]
fn a_failed_save_leaves_the_old_checkpoint_or_the_new_one() {
    let through = |disk: &SimDisk| {
        let mut consumer = open(disk);
        let mut given = tickets(drain(&mut consumer));
        given[0].take().unwrap().ack();
        consumer.save().unwrap();
        given[1].take().unwrap().ack();
        (consumer, disk.ops(), given)
    };
    let ops = {
        let disk = with_numbers(3);
        let (mut consumer, before, _given) = through(&disk);
        consumer.save().unwrap();
        disk.ops() - before
    };
    let mut failures = 0;
    for failing in 0..ops {
        for errno in [5, 28] {
            let disk = with_numbers(3);
            let (mut consumer, before, _given) = through(&disk);
            disk.fail(Fault { at: OpMatch::nth(before + failing), how: How::Errno(errno) });
            let failed = consumer.save();
            failures += u32::from(failed.is_err());
            disk.heal();
            let came = again(&disk);
            assert!(came[1..] == ["2", "3"] || came[1..] == ["3"], "op {failing} failed: {came:?}");
            let is_sync = disk.log()[before + failing].kind == OpKind::SyncData && disk.log()[before + failing].path.ends_with("a.jsonl");
            assert_eq!(consumer.save().is_err(), is_sync, "op {failing}: {failed:?}");
            if is_sync {
                // A failed sync is never proved by a second one.
                assert_eq!(came[1..], ["2", "3"]);
            } else {
                assert_eq!(again(&disk)[1..], ["3"], "op {failing} failed: {failed:?}");
            }
        }
    }
    assert!(failures > 10, "{failures}");
}

/// S0-23: closing tries three times and no more.
#[test]
fn closing_tries_to_save_a_bounded_number_of_times() {
    let disk = with_numbers(1);
    let mut consumer = open(&disk);
    ack_all(drain(&mut consumer));
    disk.fail(Fault { at: OpMatch::every(OpKind::Rename), how: How::Errno(5) });
    let before = disk.log().iter().filter(|op| op.kind == OpKind::Rename).count();
    consumer.close().unwrap_err();
    assert_eq!(disk.log().iter().filter(|op| op.kind == OpKind::Rename).count() - before, 3);
    disk.heal();
    assert_eq!(again(&disk), ["[New]", "1"]);
}

/// S0-21: one try each interval, told each time.
#[test]
fn a_save_that_fails_is_told_and_tried_again_only_after_the_interval() {
    let disk = with_numbers(1);
    let mut consumer = options(&disk).file(A).save_every(Duration::ZERO).open().unwrap();
    disk.fail(Fault { at: OpMatch::every(OpKind::Rename), how: How::Errno(28) });
    loop {
        match consumer.next(Duration::ZERO).unwrap() {
            Some(Delivery::Record(_, _, ticket)) => ticket.ack(),
            Some(Delivery::SaveFailed(error)) => break assert_eq!(error.kind(), ErrorKind::NoSpace),
            Some(_) => {}
            None => panic!("saving did not fail"),
        }
    }
    disk.heal();
    assert!(consumer.next(Duration::ZERO).unwrap().is_none());
    assert_eq!(again(&disk), ["[Resumed]"]);
}

/// S0-25, F43.
#[test]
fn a_second_consumer_of_the_same_name_is_refused() {
    let disk = with_numbers(1);
    let mut consumer = open(&disk);
    ack_all(drain(&mut consumer));
    consumer.save().unwrap();
    assert_eq!(options(&disk).file(A).open().unwrap_err().kind(), ErrorKind::NameInUse);
    let mut other = Consumer::options("other", STORE);
    assert_eq!(texts(&drain(&mut other.disk(&disk).file(A).open().unwrap())), ["[New]", "1"]);
    drop(consumer);
    assert_eq!(texts(&drain(&mut open(&disk))), ["[Resumed]"]);
}

/// S0-32, S0-33, S0-45: where nothing is acknowledged, nothing is created.
#[test]
fn nothing_is_created_before_there_is_something_to_save() {
    let disk = with_numbers(1);
    let before = disk.files();
    let mut consumer = open(&disk);
    let given = drain(&mut consumer);
    consumer.save().unwrap();
    consumer.close().unwrap();
    drop(given);
    assert_eq!(disk.files(), before);
}

/// S0-49: after closing, tickets change nothing.
#[test]
fn a_closed_consumer_saves_nothing_more() {
    let disk = with_numbers(2);
    let mut consumer = open(&disk);
    let mut given = tickets(drain(&mut consumer));
    given[0].take().unwrap().ack();
    consumer.stopper().stop();
    assert!(consumer.next(Duration::MAX).unwrap().is_none());
    consumer.close().unwrap();
    let files = |disk: &SimDisk| disk.files().into_iter().map(|path| (disk.read_file(&path), path)).collect::<Vec<(_, PathBuf)>>();
    let saved = files(&disk);
    given[1].take().unwrap().ack();
    assert_eq!(files(&disk), saved);
    assert_eq!(again(&disk), ["[Resumed]", "2"]);
}

/// The records of a journal whose rotation a crash had cut short were never given while nobody appended.
#[test]
fn a_journal_without_an_active_segment_is_consumed() {
    let disk = with_numbers(3);
    let mut consumer = open(&disk);
    let given = drain(&mut consumer);
    tickets(given).swap_remove(0).unwrap().ack();
    consumer.close().unwrap();
    disk.rename(A, "dir/a.000001.jsonl").unwrap();
    assert_eq!(again(&disk), ["[Resumed]", "2", "3"]);
    writer(&disk, A).append(&4).unwrap();
    assert_eq!(again(&disk), ["[Resumed]", "2", "3", "4"]);
}

/// A journal that was rotated and then moved to another place was taken for a new one, and all of it was given again.
#[test]
fn a_rotated_journal_that_was_moved_is_known_again() {
    for consumed in 1..=6 {
        let disk = SimDisk::new();
        let mut writer = writer(&disk, A);
        for number in 1..=6 {
            writer.append(&number).unwrap();
            if number % 2 == 0 {
                writer.rotate().unwrap();
            }
        }
        drop(writer);
        let mut consumer = open(&disk);
        let given = drain(&mut consumer);
        tickets(given).into_iter().take(consumed).for_each(|ticket| ticket.unwrap().ack());
        consumer.close().unwrap();
        disk.mkdir("elsewhere").unwrap();
        for file in disk.files().into_iter().filter(|file| file.starts_with("dir")) {
            let bytes = disk.read_file(&file).unwrap();
            disk.write_file(std::path::Path::new("elsewhere").join(file.file_name().unwrap()), bytes).unwrap();
            disk.remove(&file).unwrap();
        }
        let mut consumer = options(&disk).file("elsewhere/a.jsonl").open().unwrap();
        let given = drain(&mut consumer);
        let left = (consumed + 1..=6).map(|number| number.to_string());
        let texts = texts(&given);
        assert!(texts.iter().any(|text| text.starts_with("[Renamed")), "{consumed}: {texts:?}");
        assert_eq!(texts.into_iter().filter(|text| !text.starts_with('[')).map(ToOwned::to_owned).collect::<Vec<_>>(), left.collect::<Vec<_>>());
    }
}

/// X-19, S0-03: what was read and what was acknowledged are two places, and each record brings the checkpoint that covers it.
#[test]
fn reading_ahead_moves_no_checkpoint() {
    let disk = with_numbers(5);
    let mut consumer = open(&disk);
    let mut marks = Vec::new();
    let mut held = Vec::new();
    while let Some(delivery) = consumer.next(Duration::ZERO).unwrap() {
        if let Delivery::Record(_, record, ticket) = delivery {
            marks.push(record.mark);
            held.push(ticket);
        }
    }
    held.remove(0).ack();
    consumer.save().unwrap();
    drop(held);
    assert_eq!(again(&disk), ["[Resumed]", "2", "3", "4", "5"]);
    // A record's own mark is all that an indexer stores with what it made of it.
    for (at, mark) in marks.iter().enumerate() {
        let reader = Reader::options().disk(&disk).from(Start::After(*mark)).open(A).unwrap();
        assert_eq!(reader.records::<u64>().count(), marks.len() - at - 1);
    }
}

/// S0-40: what was read ahead and not acknowledged when the consumer is closed comes again, and what was acknowledged does not, however much it is.
#[test]
fn closing_loses_nothing_of_what_was_read() {
    const COUNT: u64 = 20_000;
    let disk = SimDisk::new();
    disk.write_file(A, (1..=COUNT).map(|number| format!("{number}\n")).collect::<String>()).unwrap();
    let mut next = 1;
    for stop_after in [1, 63, 64, 65, 5_000, COUNT] {
        let mut consumer = open(&disk);
        let mut seen = 0;
        while let Some(delivery) = consumer.next(Duration::ZERO).unwrap() {
            let Delivery::Record(_, record, ticket) = delivery else { continue };
            assert_eq!(record.value.decode::<u64>().unwrap(), next, "after {stop_after}");
            ticket.ack();
            next += 1;
            seen += 1;
            if seen == stop_after {
                break;
            }
        }
        consumer.close().unwrap();
    }
    assert_eq!(next, COUNT + 1);
}

/// S0-34, S0-38: a long source delays no other, and partial lines of two sources are never joined.
#[test]
fn sources_take_turns() {
    let disk = SimDisk::new();
    disk.write_file(A, "1\n".repeat(9_000) + "{\"a\":").unwrap();
    disk.write_file(B, "2\n{\"b\":").unwrap();
    let mut consumer = options(&disk).file(A).file(B).open().unwrap();
    let mut before = 0;
    loop {
        match consumer.next(Duration::ZERO).unwrap() {
            Some(Delivery::Record(source, record, _)) if source.path().ends_with("b.jsonl") => break assert_eq!(record.value.as_bytes(), b"2"),
            Some(_) => before += 1,
            None => panic!("b is never given"),
        }
    }
    assert!(before < 200, "{before} were before it");
    ack_all(drain(&mut consumer));
    disk.append_raw(A, "1}\n").unwrap();
    disk.append_raw(B, "1}\n").unwrap();
    let given = drain(&mut consumer);
    let mut given = texts(&given);
    given.sort_unstable();
    assert_eq!(given, ["{\"a\":1}", "{\"b\":1}"]);
}

/// Damage, or a source that cannot be read, stops no other.
#[test]
fn a_source_that_cannot_be_read_stops_no_other() {
    let disk = SimDisk::new();
    disk.write_file(A, "1\n").unwrap();
    disk.write_file(B, "2\n").unwrap();
    let mut consumer = options(&disk).file(A).file(B).open().unwrap();
    disk.fail(Fault { at: OpMatch::every(OpKind::ReadAt).on(A), how: How::Errno(5) });
    let (mut given, mut errors) = (Vec::new(), 0);
    for _ in 0..10 {
        match consumer.next(Duration::ZERO) {
            Ok(Some(Delivery::Record(_, record, _))) => given.push(record.value.as_bytes().to_vec()),
            Ok(_) => {}
            Err(_) => errors += 1,
        }
    }
    assert_eq!((given, errors), (vec![b"2".to_vec()], 1));
    disk.heal();
    assert_eq!(texts(&drain(&mut consumer)), ["[New]", "1"]);
}

/// Journals that appear in a directory are consumed, archived segments with their journal, and other files not.
#[test]
fn new_journals_of_a_directory_are_picked_up() {
    let disk = SimDisk::new();
    disk.write_file("dir/a.000001.jsonl", "1\n").unwrap();
    disk.write_file(A, "2\n").unwrap();
    disk.write_file("dir/a.jsonl.quarantine", "3\n").unwrap();
    let mut consumer = options(&disk).directory("dir", &[".jsonl"]).poll_every(Duration::ZERO).open().unwrap();
    assert_eq!(texts(&drain(&mut consumer)), ["[New]", "1", "2"]);
    disk.write_file(B, "4\n").unwrap();
    loop {
        match consumer.next(Duration::from_secs(60)).unwrap() {
            Some(Delivery::Record(source, record, _)) => {
                assert_eq!((source.path().to_str().unwrap(), record.value.as_bytes()), (B, &b"4"[..]));
                break;
            }
            Some(_) => {}
            None => panic!("it is not picked up"),
        }
    }
}

/// S0-14, S0-15, S0-16, S0-20: sources that look alike keep their own places through a restart and a rename.
#[test]
fn equal_and_empty_and_renamed_files_keep_their_own_places() {
    let disk = SimDisk::new();
    for (path, text) in [(A, "1\n2\n3\n"), (B, "1\n2\n3\n"), ("dir/c.jsonl", ""), ("dir/d.jsonl", "")] {
        disk.write_file(path, text).unwrap();
    }
    let mut with_all = options(&disk);
    with_all.directory("dir", &[".jsonl"]);
    let mut consumer = with_all.open().unwrap();
    for (at, delivery) in std::iter::from_fn(|| consumer.next(Duration::ZERO).unwrap()).enumerate() {
        match delivery {
            Delivery::Record(source, record, ticket) if source.path().ends_with("a.jsonl") || record.value.as_bytes() == b"1" => ticket.ack(),
            Delivery::Record(_, _, ticket) => ticket.hold(),
            _ => assert!(at < 20),
        }
    }
    consumer.close().unwrap();
    disk.rename(A, "dir/z.jsonl").unwrap();
    disk.append_raw("dir/z.jsonl", "4\n").unwrap();
    disk.append_raw("dir/c.jsonl", "5\n").unwrap();
    let mut consumer = options(&disk.kill()).directory("dir", &[".jsonl"]).open().unwrap();
    let mut records = Vec::new();
    while let Some(delivery) = consumer.next(Duration::ZERO).unwrap() {
        match delivery {
            Delivery::Record(source, record, _) => {
                records.push((
                    source.path().file_stem().unwrap().to_str().unwrap().to_owned(),
                    String::from_utf8(record.value.as_bytes().to_vec()).unwrap(),
                ));
            }
            Delivery::Restored(source, restored) if source.path().ends_with("z.jsonl") => assert!(matches!(restored, Restored::Renamed { .. })),
            _ => {}
        }
    }
    records.sort();
    let expected = [("b", "2"), ("b", "3"), ("c", "5"), ("z", "4")].map(|(stem, text)| (stem.to_owned(), text.to_owned()));
    assert_eq!(records, expected);
}

/// S0-18: what was saved of a file that is no longer there is told.
#[test]
fn a_source_that_is_gone_is_told() {
    let disk = with_numbers(1);
    let mut consumer = open(&disk);
    ack_all(drain(&mut consumer));
    consumer.close().unwrap();
    disk.remove(A).unwrap();
    disk.write_file(B, "2\n").unwrap();
    let given = texts(&drain(&mut options(&disk).file(B).open().unwrap())).join(" ");
    assert!(given.starts_with("[deleted ") && given.ends_with("a.jsonl] [New] 2"), "{given}");
}

/// S0-31, F41: a damaged checkpoint is told, and the one before it used.
#[test]
fn a_damaged_checkpoint_is_told_and_its_previous_generation_used() {
    let disk = with_numbers(3);
    let mut consumer = open(&disk);
    let mut given = tickets(drain(&mut consumer));
    for ticket in &mut given[..2] {
        ticket.take().unwrap().ack();
        consumer.save().unwrap();
    }
    drop(consumer);
    let path = "state/indexer/checkpoint.jsonl";
    let mut bytes = disk.read_file(path).unwrap();
    bytes[20] ^= 1;
    disk.write_file(path, bytes).unwrap();
    assert_eq!(again(&disk), ["[PreviousUsed]", "[Resumed]", "2", "3"]);
    disk.write_file(format!("{path}.previous"), "").unwrap();
    assert_eq!(again(&disk), ["[Damaged]", "1", "2", "3"]);
}

/// S0-12, F39: a journal that ends before its checkpoint is told, and read from its first record.
#[test]
fn a_journal_that_lost_its_end_is_told() {
    let disk = with_numbers(3);
    let mut consumer = open(&disk);
    ack_all(drain(&mut consumer));
    consumer.close().unwrap();
    let bytes = disk.read_file(A).unwrap();
    let second = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    disk.write_file(A, &bytes[..second]).unwrap();
    assert_eq!(again(&disk), ["[Shorter]", "1"]);
}

/// A journal that is missing for a moment keeps its place.
#[test]
fn a_journal_that_is_not_there_yet_is_awaited_and_keeps_its_checkpoint() {
    let disk = with_numbers(2);
    let mut consumer = options(&disk).file(A).poll_every(Duration::ZERO).open().unwrap();
    ack_all(drain(&mut consumer));
    consumer.close().unwrap();
    disk.rename(A, "dir/away").unwrap();
    let mut consumer = options(&disk).file(A).poll_every(Duration::ZERO).open().unwrap();
    assert!(texts(&drain(&mut consumer)).join(" ").starts_with("[deleted "));
    disk.rename("dir/away", A).unwrap();
    writer(&disk, A).append(&3).unwrap();
    assert_eq!(texts(&drain(&mut consumer)), ["[Resumed]", "3"]);
}

/// Sources whose files are closed while they have nothing new are followed all the same.
#[test]
fn more_sources_than_files_are_kept_open_are_followed() {
    const COUNT: usize = 300;
    let disk = SimDisk::new();
    let path = |number: usize| format!("dir/{number:03}.jsonl");
    (0..COUNT).for_each(|number| disk.write_file(path(number), format!("{number}\n")).unwrap());
    let mut consumer = options(&disk).directory("dir", &[".jsonl"]).open().unwrap();
    let settle = |consumer: &mut Consumer| {
        let mut records = Vec::new();
        while let Some(delivery) = consumer.next(Duration::ZERO).unwrap() {
            if let Delivery::Record(_, record, ticket) = delivery {
                records.push(record.value.decode::<usize>().unwrap());
                ticket.ack();
            }
        }
        records.sort_unstable();
        records
    };
    assert!(settle(&mut consumer).into_iter().eq(0..COUNT));
    (0..COUNT).for_each(|number| disk.append_raw(path(number), format!("{}\n", COUNT + number)).unwrap());
    assert!(settle(&mut consumer).into_iter().eq(COUNT..2 * COUNT));
    rotate_by_hand(&disk, &path(0));
    disk.append_raw(path(0), "9999\n").unwrap();
    assert_eq!(settle(&mut consumer), [9999]);
    consumer.close().unwrap();
    let mut consumer = options(&disk).directory("dir", &[".jsonl"]).open().unwrap();
    assert_eq!(settle(&mut consumer), [0; 0]);
}

fn rotate_by_hand(disk: &SimDisk, path: &str) {
    disk.rename(path, path.replace(".jsonl", ".000001.jsonl")).unwrap();
    disk.write_file(path, "").unwrap();
}

#[cfg(feature = "tokio")]
#[tokio::test]
async fn a_consumer_can_be_awaited() -> Result<(), Error> {
    let disk = with_numbers(3);
    let mut consumer = open(&disk);
    let mut given = Vec::new();
    while given.len() < 3 {
        if let Delivery::Record(_, record, ticket) = consumer.next_async().await? {
            given.push(record.value.decode::<u64>()?);
            ticket.ack();
        }
    }
    assert_eq!(given, [1, 2, 3]);
    consumer.stopper().stop();
    assert_eq!(consumer.next_async().await.unwrap_err().kind(), ErrorKind::Closed);
    consumer.close()?;
    assert_eq!(again(&disk), ["[Resumed]"]);
    Ok(())
}

/// A journal that was awaited was never consumed, once its directory's listing had failed.
#[test]
fn an_awaited_journal_is_consumed_although_a_listing_has_failed_meanwhile() {
    let disk = with_numbers(1);
    let mut consumer = options(&disk).file(B).directory("dir", &[".none"]).poll_every(Duration::ZERO).open().unwrap();
    disk.fail(Fault { at: OpMatch::every(OpKind::Names), how: How::Errno(5) });
    while consumer.next(Duration::from_millis(1)).is_ok() {}
    for _ in 0..10 {
        assert!(consumer.next(Duration::from_millis(1)).unwrap().is_none(), "what goes on failing is told once");
    }
    disk.heal();
    disk.write_file(B, "4\n").unwrap();
    assert_eq!(texts(&drain(&mut consumer)), ["[New]", "4"]);
}

/// One journal that could not be read kept a consumer of many from starting.
#[test]
fn a_consumer_starts_although_one_of_its_journals_cannot_be_read() {
    let disk = with_numbers(1);
    writer(&disk, B).append(&2).unwrap();
    let both = |disk: &SimDisk| {
        let mut options = options(disk);
        options.file(A).file(B);
        options
    };
    let mut consumer = both(&disk).open().unwrap();
    ack_all(drain(&mut consumer));
    consumer.close().unwrap();
    disk.append_raw(B, "3\n").unwrap();
    disk.fail(Fault { at: OpMatch::every(OpKind::ReadAt).on(A), how: How::Errno(5) });
    let mut consumer = both(&disk).open().unwrap();
    let (mut given, mut errors) = (Vec::new(), 0);
    for _ in 0..10 {
        match consumer.next(Duration::ZERO) {
            Ok(Some(Delivery::Record(_, record, ticket))) => {
                given.push(record.value.as_bytes().to_vec());
                ticket.ack();
            }
            Ok(_) => {}
            Err(_) => errors += 1,
        }
    }
    assert_eq!((given, errors), (vec![b"3".to_vec()], 1));
    disk.heal();
    writer(&disk, A).append(&4).unwrap();
    assert_eq!(texts(&drain(&mut consumer)), ["[Resumed]", "4"]);
}

/// Saving failed for good when a journal was deleted between its first record and the first save.
#[test]
fn what_was_acknowledged_of_a_file_that_is_gone_is_saved() {
    let disk = with_numbers(1);
    let mut consumer = open(&disk);
    ack_all(drain(&mut consumer));
    disk.remove(A).unwrap();
    assert_eq!(texts(&drain(&mut consumer)), ["[deleted dir/a.jsonl]"]);
    consumer.save().unwrap();
    consumer.close().unwrap();
}

/// S0-21, S0-35: a journal that was cut, and deleted before it was read again, made this save and all later ones fail.
#[test]
fn a_journal_that_is_deleted_after_it_was_cut_keeps_nothing_from_being_saved() {
    let disk = with_numbers(2);
    writer(&disk, B).append(&5).unwrap();
    let mut consumer = options(&disk).file(A).file(B).open().unwrap();
    ack_all(drain(&mut consumer));
    disk.truncate(A, 0).unwrap();
    while !matches!(consumer.next(Duration::ZERO).unwrap(), Some(Delivery::Event(_, FollowEvent::Truncated { .. }))) {}
    disk.remove(A).unwrap();
    for _ in 0..2 {
        consumer.save().unwrap();
        drain(&mut consumer);
    }
    consumer.close().unwrap();
    let mut consumer = options(&disk.kill()).file(A).file(B).open().unwrap();
    assert_eq!(texts(&drain(&mut consumer)), ["[deleted dir/a.jsonl]", "[Resumed]"]);
}

/// S0-16: a file that was renamed while its directory was consumed was given again from its start.
#[test]
fn a_file_that_is_renamed_while_it_is_consumed_keeps_its_place() {
    for is_replaced in [false, true] {
        let disk = with_numbers(3);
        let mut consumer = options(&disk).directory("dir", &[".jsonl"]).poll_every(Duration::ZERO).open().unwrap();
        let mut open = tickets(drain(&mut consumer));
        open[0].take().unwrap().ack();
        disk.rename(A, "dir/z.jsonl").unwrap();
        let mut expected = vec!["[Renamed { from: \"dir/a.jsonl\" }]"];
        if is_replaced {
            writer(&disk, A).append(&9).unwrap();
            expected.extend(["[New]", "9"]);
        }
        let mut given = Vec::new();
        while given.len() < expected.len() {
            given.extend(drain(&mut consumer));
        }
        assert_eq!(texts(&given), expected);
        writer(&disk, "dir/z.jsonl").append(&4).unwrap();
        let behind = drain(&mut consumer);
        assert_eq!(texts(&behind), ["4"]);
        ack_all(behind);
        // Tickets from before are good.
        ack_all(given);
        open.into_iter().flatten().for_each(Ticket::ack);
        consumer.close().unwrap();
        let mut consumer = options(&disk.kill()).directory("dir", &[".jsonl"]).open().unwrap();
        let resumed = texts(&drain(&mut consumer)).join(" ");
        assert_eq!(resumed, if is_replaced { "[Resumed] [Resumed]" } else { "[Resumed]" });
    }
}

/// S0-48: a record that was released while its file had another name, or none, was told as a failure of the system.
#[test]
fn a_released_record_comes_again_from_a_file_that_was_renamed_meanwhile() {
    let disk = with_numbers(3);
    let mut consumer = options(&disk).directory("dir", &[".jsonl"]).poll_every(Duration::ZERO).open().unwrap();
    let mut open = tickets(drain(&mut consumer));
    disk.rename(A, "away").unwrap();
    open[1].take().unwrap().release();
    assert_eq!(texts(&drain(&mut consumer)), ["[deleted dir/a.jsonl]"]);
    disk.rename("away", "dir/z.jsonl").unwrap();
    let mut given = Vec::new();
    while given.len() < 2 {
        given.extend(drain(&mut consumer));
    }
    assert_eq!(texts(&given), ["[Renamed { from: \"dir/a.jsonl\" }]", "2"]);
    ack_all(given);
    open.into_iter().flatten().for_each(Ticket::ack);
    consumer.close().unwrap();
    let mut consumer = options(&disk.kill()).directory("dir", &[".jsonl"]).open().unwrap();
    assert_eq!(texts(&drain(&mut consumer)), ["[Resumed]"]);
}

/// S0-16, S0-20: a second name of a file is no new name, and a new file with an old name is no renamed one.
#[test]
fn only_a_file_that_lost_its_name_goes_on_under_another() {
    let disk = with_numbers(2);
    let mut consumer = options(&disk).directory("dir", &[".jsonl"]).poll_every(Duration::ZERO).open().unwrap();
    ack_all(drain(&mut consumer));
    disk.link(A, B).unwrap();
    let mut given = Vec::new();
    while given.len() < 3 {
        given.extend(drain(&mut consumer));
    }
    assert_eq!(texts(&given), ["[New]", "1", "2"]);
    disk.remove(A).unwrap();
    disk.write_file(A, "5\n").unwrap();
    let mut given = Vec::new();
    while given.len() < 2 {
        given.extend(drain(&mut consumer));
    }
    assert_eq!(texts(&given), ["[replaced false]", "5"]);
}

/// S0-13: a file that was closed for want of descriptors and rewritten in place, to the same length, was taken for what it had been.
#[test]
fn a_parked_file_that_is_rewritten_to_the_same_length_is_read_again() {
    const COUNT: usize = 200;
    let disk = SimDisk::new();
    let path = |number: usize| format!("dir/{number:03}.jsonl");
    (0..COUNT).for_each(|number| disk.write_file(path(number), "1\n2\n").unwrap());
    let mut consumer = options(&disk).directory("dir", &[".jsonl"]).poll_every(Duration::ZERO).open().unwrap();
    ack_all(drain(&mut consumer));
    for number in 0..COUNT {
        disk.truncate(path(number), 0).unwrap();
        disk.append_raw(path(number), "3\n4\n").unwrap();
    }
    let mut records = Vec::new();
    for _ in 0..10 {
        let given = drain(&mut consumer);
        records.extend(texts(&given).into_iter().filter(|text| !text.starts_with('[')).map(ToOwned::to_owned));
        ack_all(given);
    }
    assert_eq!(records.iter().filter(|record| *record == "3").count(), COUNT);
    assert_eq!(records.len(), 2 * COUNT, "{records:?}");
}

/// S0-19: what is kept of sources that are gone does not grow without bound, and which are forgotten is told.
#[test]
fn of_sources_that_are_gone_the_last_ten_thousand_are_remembered() {
    let disk = with_numbers(1);
    let state = |number: u64| {
        let checkpoint =
            serde_json::json!({ "path": format!("dir/gone-{number}.jsonl"), "file": null, "fingerprint": null, "generation": 0, "last": null });
        serde_json::from_value(serde_json::json!({ "checkpoint": checkpoint, "rejected": 0 })).unwrap()
    };
    let gone: Vec<untorn::SourceState> = (0..10_002).map(state).collect();
    untorn::internals::save_state(&disk, STORE.as_ref(), "indexer", &gone).unwrap();
    let mut consumer = open(&disk);
    let mut forgotten = Vec::new();
    while let Some(delivery) = consumer.next(Duration::ZERO).unwrap() {
        match delivery {
            Delivery::Event(source, FollowEvent::Forgotten) => forgotten.push(source.path().display().to_string()),
            Delivery::Record(_, _, ticket) => ticket.ack(),
            _ => {}
        }
    }
    assert_eq!(forgotten, ["dir/gone-0.jsonl", "dir/gone-1.jsonl"]);
    consumer.close().unwrap();
    let saved = disk.read_file("state/indexer/checkpoint.jsonl").unwrap();
    let sources = untorn::internals::saved_state(&saved).unwrap().sources;
    assert_eq!(sources[..10_000], gone[2..]);
    assert_eq!(sources.len(), 10_001);
}

/// S0-34: a source whose records cannot be settled is not read on, and stops no other.
#[test]
fn a_source_with_too_much_in_flight_stops_no_other() {
    let disk = with_numbers(5);
    let mut b = writer(&disk, B);
    for number in 11..=15 {
        b.append(&number).unwrap();
    }
    let mut consumer = options(&disk).file(A).file(B).in_flight_max_each(2, usize::MAX).open().unwrap();
    let mut held = Vec::new();
    let mut given = Vec::new();
    loop {
        match consumer.next(Duration::ZERO).unwrap() {
            Some(Delivery::Record(source, record, ticket)) => {
                given.push(record.value.decode::<u64>().unwrap());
                if source.path().ends_with("a.jsonl") { held.push(ticket) } else { ticket.ack() }
            }
            Some(Delivery::Event(source, FollowEvent::Stalled { records, .. })) => assert!(source.path().ends_with("a.jsonl") && records == 2),
            Some(_) => {}
            None => break,
        }
    }
    given.sort_unstable();
    assert_eq!(given, [1, 2, 11, 12, 13, 14, 15]);
    held.into_iter().for_each(Ticket::ack);
    assert_eq!(texts(&drain(&mut consumer))[..2], ["3", "4"]);
}
