//! Who waits for room or for the disk, and who stops waiting.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use untorn::{
    AsyncWriter, Durability, ErrorKind,
    sim::{OpKind, OpMatch, SimDisk},
};

use super::{PATH, Stalled, behind_a_stalled_write, count, current_thread, open, options, poll_once, records};

#[test]
fn a_record_larger_than_the_queue_is_taken_alone() {
    let disk = SimDisk::new();
    let writer = options(&disk).queue_max(2, 10).open_shared(PATH).unwrap();
    for _ in 0..3 {
        writer.append(&json!("x".repeat(100))).unwrap();
    }
    assert_eq!(records(&disk).len(), 3);
}

/// F52: one who waits for room and goes away leaves its place to the next.
#[test]
fn who_gives_up_waiting_for_room_lets_the_next_in() {
    let disk = SimDisk::new();
    let writer = options(&disk).queue_max(1, 1000).open_async(PATH);
    let writer = current_thread(writer).unwrap();
    let stalled = behind_a_stalled_write(&disk, &writer.to_shared());
    let (mut gives_up, mut stays) = (writer.enqueue(&json!("gives up")), writer.enqueue(&json!("stays")));
    assert!(poll_once(&mut gives_up).is_pending() && poll_once(&mut stays).is_pending());
    assert_eq!(writer.try_enqueue(&json!("full")).unwrap_err().kind(), ErrorKind::QueueFull);
    drop(gives_up);
    stalled.release();
    current_thread(async { stays.await.unwrap().await }).unwrap();
    assert_eq!(records(&disk), [json!(0), json!("stays")]);
}

/// F52: wherever a future is dropped, its record is there once or not at all, nobody else notices, and the queue goes on.
#[test]
fn a_dropped_future_tears_and_removes_nothing() {
    let points: [fn(&AsyncWriter, &SimDisk, Stalled); 5] = [
        |writer, _, stalled| {
            drop(writer.append(&json!("never polled")));
            stalled.release();
        },
        |writer, _, stalled| {
            let mut append = writer.append(&json!("queued"));
            assert!(poll_once(&mut append).is_pending());
            drop(append);
            stalled.release();
        },
        |writer, disk, stalled| {
            let mut append = writer.append(&json!("being written"));
            assert!(poll_once(&mut append).is_pending());
            let sync = Stalled::at_next(disk, OpKind::SyncData);
            stalled.release();
            let sync = sync.wait();
            drop(append);
            sync.release();
        },
        |writer, _, stalled| {
            let mut append = writer.append(&json!("written"));
            assert!(poll_once(&mut append).is_pending());
            stalled.release();
            current_thread(writer.flush()).unwrap();
            drop(append);
        },
        |writer, _, stalled| {
            drop((writer.flush(), writer.sync(), writer.reopen(), writer.close(), writer.discard()));
            let mut barriers = (writer.flush(), writer.sync(), writer.durable_through(untorn::Position { segment: 1, offset: 1 }));
            assert!(poll_once(&mut barriers.0).is_pending() && poll_once(&mut barriers.1).is_pending() && poll_once(&mut barriers.2).is_pending());
            drop(barriers);
            stalled.release();
        },
    ];
    for (at, point) in points.iter().enumerate() {
        let disk = SimDisk::new();
        let writer = open(&disk).to_async();
        let stalled = behind_a_stalled_write(&disk, &writer.to_shared());
        point(&writer, &disk, stalled);
        current_thread(writer.append(&json!("next"))).unwrap();
        current_thread(writer.close()).unwrap();
        let expected = match at {
            1 => vec![json!(0), json!("queued"), json!("next")],
            2 => vec![json!(0), json!("being written"), json!("next")],
            3 => vec![json!(0), json!("written"), json!("next")],
            _ => vec![json!(0), json!("next")],
        };
        assert_eq!(records(&disk), expected, "point {at}");
    }
}

/// F54: a lone append may listen for its verdict for a moment, right after another one had its own, but never for longer than that.
#[test]
fn a_lone_append_on_a_disk_that_stands_still_is_pending() {
    let disk = SimDisk::new();
    let writer = current_thread(options(&disk).durability(Durability::Os).open_async(PATH)).unwrap();
    current_thread(async {
        for pair in 0..200 {
            let (first, mut second) = (writer.append(&json!(2 * pair)), writer.append(&json!(2 * pair + 1)));
            let stalled = Stalled::at(&disk, OpMatch::nth_of(OpKind::Write, count(&disk, OpKind::Write) + 1));
            first.await.unwrap();
            assert!(poll_once(&mut second).is_pending());
            stalled.wait().release();
            second.await.unwrap();
        }
    });
    assert_eq!(records(&disk), (0..400).map(Value::from).collect::<Vec<_>>());
}

/// F54: while the disk stands still, tasks go on, memory stays at the bound, and whoever comes waits.
#[test]
fn a_disk_that_stands_still_stops_no_task_and_fills_no_memory() {
    let disk = SimDisk::new();
    let writer = current_thread(options(&disk).queue_max(100, 10_000).open_async(PATH)).unwrap();
    let stalled = Stalled::at_next(&disk, OpKind::SyncData);
    drop(writer.try_enqueue(&json!("stalls")).unwrap());
    let stalled = stalled.wait();
    current_thread(async {
        let ticks = Arc::new(AtomicUsize::new(0));
        let local = tokio::task::LocalSet::new();
        let ticking = Arc::clone(&ticks);
        local.spawn_local(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(1)).await;
                ticking.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut producers = Vec::new();
        for task in 0..500 {
            let writer = writer.clone();
            producers.push(local.spawn_local(async move { writer.append(&json!({"task": task, "text": "x".repeat(100)})).await.map(|_| ()) }));
        }
        let limited = writer.clone();
        local
            .run_until(async move {
                for _ in 0..50 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    let state = limited.state();
                    assert!(state.queued_records <= 100, "{} records are queued", state.queued_records);
                    assert!(state.queued_bytes <= 10_000, "{} bytes are queued", state.queued_bytes);
                }
                assert!(limited.state().queued_records > 50);
                // Whoever stops waiting has learnt nothing.
                let waits = tokio::time::timeout(Duration::from_millis(5), limited.append(&json!("impatient"))).await;
                assert!(waits.is_err());
            })
            .await;
        assert!(ticks.load(Ordering::Relaxed) >= 25, "{ticks:?} ticks in 50 ms");
        stalled.release();
        local
            .run_until(async move {
                for producer in producers {
                    producer.await.unwrap().unwrap();
                }
            })
            .await;
    });
    current_thread(writer.close()).unwrap();
    assert_eq!(records(&disk).len(), 501);
}
