//! Batches stand or fall together: what a repair keeps of one, and what it moves away.

use untorn::{RepairMethod, RepairOptions, plan_repair};

use super::{newest_repair, repair, sealed};
use crate::support::TestJournal;

/// A batch whose end is missing is withheld by readers; repair moves its records away, and nothing that stands between them.
#[test]
fn an_open_batch_in_the_middle_is_moved_to_quarantine() {
    let first = sealed("{\"id\":1", 1, 0);
    let batch = [sealed("{\"id\":2", 2, 2), sealed("{\"id\":3", 3, 1)];
    let next = sealed("{\"id\":5", 5, 0);
    let journal = TestJournal::with_bytes(format!("{first}\n{}\n{{\"plain\":1}}\n\n{}\n{next}\n", batch[0], batch[1]));
    let repaired = repair(&journal);
    assert_eq!(journal.text(), format!("{first}\n{{\"plain\":1}}\n\n{next}\n"));
    assert_eq!((repaired.kept, repaired.removed_bytes as usize), (3, batch[0].len() + batch[1].len() + 2));
    assert!(newest_repair(&journal).ranges.iter().all(|(.., reason)| reason == "open-batch"));

    let whole = format!("{first}\n{}\nx\n{}\n{}\n", batch[0], batch[1], sealed("{\"id\":4", 4, 0));
    let journal = TestJournal::with_bytes(&whole);
    repair(&journal);
    assert_eq!(journal.text(), whole.replace("x\n", ""), "damage between the lines of a whole batch does not break it");
}

/// A batch is no longer than a line may be, wherever in the file it stands.
#[test]
fn a_batch_may_be_as_long_as_a_line_and_no_longer() {
    let batch = format!("{}\n{}\n", sealed("{\"id\":2", 2, 1), sealed("{\"id\":3", 3, 0));
    let journal = TestJournal::with_bytes(format!("{}\n{batch}", sealed("{\"id\":1", 1, 0)));
    for (max, removed) in [(batch.len(), 0), (batch.len() - 1, batch.len())] {
        let plan = RepairOptions::new().line_bytes_max(max as u64).plan(&journal.path).unwrap();
        assert_eq!(plan.removed_bytes(), removed as u64, "lines of at most {max} bytes");
    }
}

#[test]
fn neighbouring_records_of_an_open_batch_are_one_action() {
    let batch = format!("{}\n{}\n", sealed("{\"id\":2", 2, 2), sealed("{\"id\":3", 3, 1));
    let next = sealed("{\"id\":5", 5, 0);
    let plan = plan_repair(TestJournal::with_bytes(format!("{}\n{batch}{next}\n", sealed("{\"id\":1", 1, 0))).path).unwrap();
    let told: Vec<_> = plan.actions().iter().map(|action| (action.line, action.lines, action.len as usize)).collect();
    assert_eq!(told, [(2, 2, batch.len())]);
}

/// Records stand or fall together: where one of a batch is lost, the others are moved away too.
#[test]
fn a_batch_that_lost_a_record_is_moved_to_quarantine() {
    let (one, four) = (sealed("{\"id\":1", 1, 2), sealed("{\"id\":4", 4, 0));
    let (two, three) = (sealed("{\"id\":2", 2, 1), sealed("{\"id\":3", 3, 0));
    let journal = TestJournal::with_bytes(format!("{one}\n{}\n{three}\n{four}\n", two.replace("id", "ie")));
    let repaired = repair(&journal);
    assert_eq!((journal.text(), repaired.kept), (format!("{four}\n"), 1));
}

/// Who wrote half a batch and then all of it again has not lost it.
#[test]
fn a_batch_that_is_written_again_is_whole() {
    let (one, five) = (sealed("{\"id\":1", 1, 0), sealed("{\"id\":5", 5, 0));
    let batch = format!("{}\n{}\n{}\n", sealed("{\"id\":2", 2, 2), sealed("{\"id\":3", 3, 1), sealed("{\"id\":4", 4, 0));
    let journal = TestJournal::with_bytes(format!("{one}\n{}\n{batch}{five}\n", sealed("{\"id\":2", 2, 2)));
    repair(&journal);
    assert_eq!(journal.text(), format!("{one}\n{batch}{five}\n"));
}

/// What is left of a batch is moved away, and a whole record behind it gets its LF all the same.
#[test]
fn a_last_record_behind_an_open_batch_stays() {
    let (first, open) = (sealed("{\"id\":1", 1, 0), sealed("{\"id\":2", 2, 2));
    let journal = TestJournal::with_bytes(format!("{first}\n{open}\n{{\"id\":9}}"));
    let repaired = repair(&journal);
    assert_eq!(journal.text(), format!("{first}\n{{\"id\":9}}\n"));
    assert_eq!((repaired.terminated, repaired.remaining), (true, 0));
}

/// A record that is moved away gets no LF, which would be a blank line in its place.
#[test]
fn a_last_record_of_a_batch_that_lost_one_goes_without_its_lf() {
    let first = sealed("{\"id\":1", 1, 0);
    let batch = format!("{}\n{}", sealed("{\"id\":2", 2, 2), sealed("{\"id\":4", 4, 0));
    for between in ["", "{\"plain\":1}\n"] {
        for behind in ["", "\0\0", " "] {
            let journal = TestJournal::with_bytes(format!("{first}\n{between}{batch}{behind}"));
            let repaired = repair(&journal);
            assert_eq!(journal.text(), format!("{first}\n{between}"), "{behind:?}");
            assert_eq!((repaired.terminated, repaired.removed_bytes as usize), (false, batch.len() + behind.len()), "{behind:?}");
        }
    }
}

/// A batch that lacks an LF, or all but the last, has as many bytes too few; it is whole only if it fits with them, or readers would withhold it.
#[test]
fn a_batch_is_measured_with_the_lfs_that_it_gets() {
    let (one, last) = (sealed("{\"id\":1", 1, 0), sealed("{\"id\":5", 5, 0));
    let batch = [sealed("{\"id\":2", 2, 2), sealed("{\"id\":3", 3, 1), sealed("{\"id\":4", 4, 0)];
    let whole = format!("{}\n", batch.join("\n"));
    let damaged = [
        format!("{one}\n{}\n{last}\n", batch.concat()),
        format!("{one}\n{}{}\n{}\n{last}\n", batch[0], batch[1], batch[2]),
        format!("{one}\n{}\n{}{}\n{last}\n", batch[0], batch[1], batch[2]),
        format!("{one}\n{}\n{}{}", batch[0], batch[1], batch[2]),
        format!("{one}\n{}", batch.join("\n")),
    ];
    for before in damaged {
        let behind = if before.ends_with('\n') { format!("{last}\n") } else { String::new() };
        let fits = [(whole.len(), &*whole), (whole.len() - 1, "")];
        // LFs that go in before the batch are none of its own.
        for ((max, kept), glued) in fits.into_iter().flat_map(|fit| [(fit, ""), (fit, "{\"id\":0}")]) {
            let journal = TestJournal::with_bytes(format!("{glued}{before}"));
            let mut options = RepairOptions::new();
            options.line_bytes_max(max as u64);
            let repaired = options.plan(&journal.path).unwrap().apply().unwrap();
            let first = if glued.is_empty() { String::new() } else { format!("{glued}\n") };
            assert_eq!(journal.text(), format!("{first}{one}\n{kept}{behind}"), "lines of at most {max} bytes: {glued}{before}");
            assert_eq!(repaired.remaining, 0, "lines of at most {max} bytes: {glued}{before}");
        }
    }
}

/// A record of a batch is salvaged, and completes it.
#[test]
fn a_salvaged_record_completes_its_batch() {
    let (one, two, three) = (sealed("{\"id\":1", 1, 2), sealed("{\"id\":2", 2, 1), sealed("{\"id\":3", 3, 0));
    let journal = TestJournal::with_bytes(format!("{one}\n{two}\n\0\0{three}\n"));
    repair(&journal);
    assert_eq!(journal.text(), format!("{one}\n{two}\n{three}\n"));
    let journal = TestJournal::with_bytes(format!("{one}{two}\n"));
    repair(&journal);
    assert_eq!(journal.text(), "", "no end, no batch");
}

#[test]
fn an_open_batch_at_the_end_is_cut_with_its_blank_lines() {
    let first = sealed("{\"id\":1", 1, 0);
    let second = sealed("{\"id\":3", 3, 1);
    for tail in ["\n", "\n\n \n", "\n{\"id\":3", "", &format!("\n{second}\n"), &format!("\n\n{second}")] {
        let journal = TestJournal::with_bytes(format!("{first}\n{}{tail}", sealed("{\"id\":2", 2, 2)));
        let plan = plan_repair(&journal.path).unwrap();
        assert_eq!((plan.how(), plan.kept()), (RepairMethod::InPlace, 1), "{tail:?}");
        plan.apply().unwrap();
        assert_eq!(journal.text(), format!("{first}\n"), "{tail:?}");
    }
}
