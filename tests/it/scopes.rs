//! Iterations of a loop: what is archived and pruned when one begins.

use untorn::{Before, Consumers, Keep, Reader, Scopes};

use crate::support::TestJournal;

/// A loop that writes three records in each iteration, archives what is before it, and prunes what is too old. Gives the journal and its scopes.
fn run(keep: usize, iterations: u64) -> (TestJournal, Scopes) {
    let journal = TestJournal::missing();
    let mut writer = journal.open();
    let mut scopes = Scopes::keep(keep);
    for iteration in 0..iterations {
        scopes.begin(writer.next_seq().unwrap());
        writer.append(&iteration).unwrap();
        if let Some(before) = scopes.archive_before() {
            writer.archive(before).unwrap();
        }
        if let Some(keep) = scopes.prune_keep(Consumers::None) {
            writer.prune(&keep).unwrap();
        }
        (0..2).for_each(|_| _ = writer.append(&iteration).unwrap());
    }
    (journal, scopes)
}

fn kept(journal: &TestJournal) -> Vec<u64> {
    Reader::open(&journal.path).unwrap().records().map(|record| record.unwrap().value).collect()
}

/// S3-11: with 100 iterations kept, nothing goes up to iteration 100; at 101 the first goes, at 102 the second. S3-05: only what is before is archived.
#[test]
fn the_boundary_table_of_a_loop_that_keeps_a_hundred_iterations() {
    for (current, oldest) in [(0, 0), (1, 0), (2, 0), (99, 0), (100, 0), (101, 1), (102, 2)] {
        let (journal, scopes) = run(100, current + 1);
        assert_eq!(scopes.current(), Some(current));
        let expected: Vec<u64> = (oldest..=current).flat_map(|iteration| [iteration; 3]).collect();
        assert_eq!(kept(&journal), expected, "in iteration {current}");
        let active = Reader::options().active_only().open(&journal.path).unwrap().records::<u64>();
        assert!(active.map(|record| record.unwrap().value).all(|iteration| iteration == current), "only the current iteration is not archived");
    }
}

#[test]
fn small_loops_have_the_same_table() {
    for keep in 0..3 {
        for current in 0..6 {
            let (journal, scopes) = run(keep, current + 1);
            // The newest archived segment is never deleted.
            let oldest = current.saturating_sub(keep as u64).min(current.saturating_sub(1));
            assert_eq!(kept(&journal).first(), Some(&oldest), "keep {keep}, iteration {current}");
            assert_eq!(scopes.prune_keep(Consumers::None).is_some(), current > keep as u64);
        }
    }
}

/// S3-20: an iteration that begins a second time, after a crash, is the same one; and the value survives being stored.
#[test]
fn an_iteration_that_begins_again_is_one_iteration() {
    let mut scopes = Scopes::keep(2);
    for start in [1, 5, 5, 9] {
        scopes.begin(start);
        let stored = serde_json::to_string(&scopes).unwrap();
        assert_eq!(serde_json::from_str::<Scopes>(&stored).unwrap(), scopes);
    }
    assert_eq!((scopes.current(), scopes.archive_before()), (Some(2), Some(Before::Seq(9))));
    // The journal lost the records of two iterations, and their numbers are given again.
    scopes.begin(4);
    assert_eq!((scopes.current(), scopes.archive_before()), (Some(1), Some(Before::Seq(4))));
}

/// S3-15: what archives the outer loop does not take the records of an inner iteration that is still under way.
#[test]
fn nested_loops_archive_what_none_of_them_is_at_work_on() {
    let journal = TestJournal::missing();
    let mut writer = journal.open();
    let (mut outer, mut inner) = (Scopes::keep(1), Scopes::keep(1));
    outer.begin(1);
    (1..=3).for_each(|n| _ = writer.append(&n).unwrap());
    inner.begin(4);
    (4..=6).for_each(|n| _ = writer.append(&n).unwrap());
    // The outer loop goes on while the inner iteration is not done.
    outer.begin(7);
    (7..=8).for_each(|n| _ = writer.append(&n).unwrap());
    assert_eq!(outer.archive_before(), Some(Before::Seq(7)));
    let before = Scopes::archive_before_all([&outer, &inner]).unwrap();
    assert_eq!(before, Before::Seq(4));
    assert_eq!(writer.archive(before).unwrap().last_seq, Some(3));
    inner.begin(9);
    assert_eq!(Scopes::archive_before_all([&outer, &inner]), Some(Before::Seq(7)));
    assert_eq!(Scopes::archive_before_all([&Scopes::keep(3)]), None);
}

/// The unit is the iteration, however large one is; whoever wants to bound bytes says so.
#[test]
fn a_single_iteration_of_many_records_is_bounded_by_another_unit() {
    let journal = TestJournal::missing();
    let mut writer = journal.open_with(|options| _ = options.rotate_at(4000));
    let mut scopes = Scopes::keep(100);
    scopes.begin(1);
    (0..1000_u64).for_each(|n| _ = writer.append(&n).unwrap());
    assert!(scopes.prune_keep(Consumers::None).is_none());
    writer.prune(&Keep::new(Consumers::None).bytes(8000)).unwrap();
    let count = kept(&journal).len();
    assert!((100..400).contains(&count), "{count} are kept");
}
