//! The loop engine of the examples, stopped and resumed everywhere.

#[allow(dead_code, reason = "its `main` is for the shell")]
#[path = "../../examples/workflow_loop.rs"]
mod engine;

use engine::{Engine, Event, STEPS};
use untorn::Reader;

use crate::support::TestJournal;

fn events(journal: &TestJournal) -> Vec<Event> {
    Reader::open(&journal.path).unwrap().records().map(|record| record.unwrap().value).collect()
}

/// The events of whole iterations from `first` on, and the first ones of the last.
fn expected(first: u64, count: usize) -> Vec<Event> {
    let iteration = |iteration| std::iter::once(Event::Begin { iteration }).chain((0..STEPS).map(move |step| Event::Step { iteration, step }));
    (first..).flat_map(iteration).take(count).collect()
}

/// S3-08, S3-18: however often it is stopped, with a torn event at the end too, each event is there once, and so many iterations are kept.
#[test]
fn a_loop_that_is_stopped_anywhere_goes_on_where_it_was() {
    for run in 1..=9 {
        let journal = TestJournal::missing();
        let mut done = 0;
        while done < 60 {
            let mut engine = Engine::resume(&journal.path, 3).unwrap();
            (0..run).for_each(|_| _ = engine.advance().unwrap());
            done += run;
            drop(engine);
            if done % 2 == 0 {
                journal.append_as_stranger("{\"type\":\"step\",\"iter");
            }
        }
        drop(Engine::resume(&journal.path, 3).unwrap());
        let current = (done - 1) / (STEPS + 1);
        let first = current - 3;
        let events = events(&journal);
        assert_eq!(events, expected(first, (done - first * (STEPS + 1)) as usize), "stopped after every {run} events");
    }
}

/// S3-11: with a hundred kept, the first one goes at iteration 101.
#[test]
fn a_loop_keeps_its_last_hundred_iterations() {
    let journal = TestJournal::missing();
    let mut engine = Engine::resume(&journal.path, engine::KEPT).unwrap();
    for iteration in 0..=102 {
        (0..=STEPS).for_each(|_| assert_eq!(engine.advance().unwrap(), iteration));
        let first = iteration.saturating_sub(100);
        if !(2..=98).contains(&iteration) {
            let kept = (iteration - first + 1) * (STEPS + 1);
            assert_eq!(events(&journal), expected(first, kept as usize), "in iteration {iteration}");
        }
    }
}
