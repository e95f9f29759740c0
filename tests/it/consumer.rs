//! Consuming: each record at least once, and the checkpoint never ahead of what was acknowledged or of what is durable.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use untorn::{
    Consumer, ConsumerOptions, Delivery, ErrorKind, FollowEvent, Reader, Start, Ticket, Writer,
    sim::{Bounds, Fault, How, OpKind, OpMatch, SimDisk},
};

pub(crate) const A: &str = "dir/a.jsonl";
pub(crate) const B: &str = "dir/b.jsonl";
pub(crate) const STORE: &str = "state";

pub(crate) fn options(disk: &SimDisk) -> ConsumerOptions {
    let mut options = Consumer::options("indexer", STORE);
    options.disk(disk).save_every(Duration::from_secs(3600));
    options
}

pub(crate) fn open(disk: &SimDisk) -> Consumer {
    options(disk).file(A).open().expect("the consumer opens")
}

pub(crate) fn writer(disk: &SimDisk, path: &str) -> Writer {
    let mut options = Writer::options();
    options.durability(untorn::Durability::Os).disk(disk);
    options.open(path).expect("the journal opens")
}

/// What a consumer gives until it has nothing more: each delivery as a short text, with the ticket of a record.
pub(crate) fn drain(consumer: &mut Consumer) -> Vec<(String, Option<Ticket>)> {
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

pub(crate) fn texts(given: &[(String, Option<Ticket>)]) -> Vec<&str> {
    given.iter().map(|(text, _)| &**text).collect()
}

/// The tickets, in the order of the records.
pub(crate) fn tickets(given: Vec<(String, Option<Ticket>)>) -> Vec<Option<Ticket>> {
    given.into_iter().filter_map(|(_, ticket)| ticket).map(Some).collect()
}

pub(crate) fn ack_all(given: Vec<(String, Option<Ticket>)>) {
    given.into_iter().filter_map(|(_, ticket)| ticket).for_each(Ticket::ack);
}

/// What comes after a restart.
pub(crate) fn again(disk: &SimDisk) -> Vec<String> {
    let mut consumer = open(&disk.kill());
    texts(&drain(&mut consumer)).into_iter().map(ToOwned::to_owned).collect()
}

pub(crate) fn with_numbers(count: u64) -> SimDisk {
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
