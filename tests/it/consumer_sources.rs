//! Consuming many sources: each keeps its own place, whatever it is called and wherever it is moved, and none stops another.

use std::time::Duration;

use untorn::{
    Consumer, Delivery, Error, ErrorKind, FollowEvent, Restored, Ticket,
    sim::{Fault, How, OpKind, OpMatch, SimDisk},
};

use crate::consumer::{A, B, STORE, ack_all, again, drain, open, options, texts, tickets, with_numbers, writer};

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
