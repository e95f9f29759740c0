//! Who observes saves is told of each, whatever becomes of it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::{Deserialize, Serialize};
use untorn::{
    ErrorKind,
    sim::{OpKind, OpMatch, SimDisk},
};

use super::{ONCE, Observer, State, Told, journal, restored, saved_twice, snapshot};

/// A state that does what a test wants when it is serialised.
struct Acts(fn());

impl Serialize for Acts {
    fn serialize<S: serde::Serializer>(&self, _: S) -> std::result::Result<S::Ok, S::Error> {
        (self.0)();
        Err(serde::ser::Error::custom("it cannot be serialised"))
    }
}

impl<'de> Deserialize<'de> for Acts {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> std::result::Result<Acts, D::Error> {
        Ok(Acts(|| {}))
    }
}

/// S1-05, S1-06, S1-07, S1-11, S1-18: the observer is told of every save, start first and end last, once each; nobody is told without one, and
/// restoring does not forget it.
#[test]
fn an_observer_brackets_every_save() {
    let (disk, marks) = journal(3);
    let mut snapshot = snapshot(&disk);
    snapshot.save(&State::after(1), marks[0]).unwrap();
    let told = Told::default();
    snapshot.observer("stage", Observer { told: told.clone(), panics: false });
    assert_eq!(told.take(), [""; 0]);
    let seen = told.clone();
    let count = move |_: &SimDisk| seen.0.lock().unwrap().push("writes".to_owned());
    disk.before(OpMatch::nth_of(OpKind::CreateAppend, disk.log().iter().filter(|op| op.kind == OpKind::CreateAppend).count()), count);
    snapshot.save(&State::after(2), marks[1]).unwrap();
    assert_eq!(told.take(), ["start stage", "writes", "complete stage"]);
    snapshot.restore().unwrap().unwrap();
    assert_eq!(told.take(), [""; 0], "restoring is no save");
    snapshot.save(&State::after(3), marks[2]).unwrap();
    assert_eq!(told.take(), ONCE);
}

/// S1-08, S1-09, S1-18: the end is told once when the state cannot be serialised, is too long, or panics; and the observer stays.
#[test]
fn the_end_is_told_when_the_state_fails_or_panics() {
    let (disk, marks) = saved_twice();
    let told = Told::default();
    let mut snapshot = snapshot(&disk);
    snapshot.observer("stage", Observer { told: told.clone(), panics: false });
    assert_eq!(snapshot.save(&Acts(|| {}), marks[5]).unwrap_err().kind(), ErrorKind::Encode);
    assert_eq!(told.take(), ONCE);
    let panics = || std::panic::resume_unwind(Box::new("the state panics"));
    let caught = catch_unwind(AssertUnwindSafe(|| snapshot.save(&Acts(panics), marks[5]))).unwrap_err();
    assert_eq!(caught.downcast_ref::<&str>(), Some(&"the state panics"));
    assert_eq!(told.take(), ONCE);
    assert_eq!(snapshot.save(&Acts(|| {}), marks[5]).unwrap_err().kind(), ErrorKind::Encode);
    assert_eq!(told.take(), ONCE);
    assert_eq!(restored(&disk).unwrap(), Some((State::after(4), true)));
}

/// S1-10: an observer that panics changes nothing; a start that panicked has its end.
#[test]
fn an_observer_that_panics_changes_nothing() {
    let (disk, marks) = saved_twice();
    let told = Told::default();
    let mut good = snapshot(&disk);
    good.observer("stage", Observer { told: told.clone(), panics: true });
    good.save(&State::after(6), marks[5]).unwrap();
    assert_eq!((told.take(), restored(&disk).unwrap()), (ONCE.map(String::from).to_vec(), Some((State::after(6), true))));
    let mut failing = snapshot(&disk);
    failing.observer("stage", Observer { told: told.clone(), panics: true });
    let panics = || std::panic::resume_unwind(Box::new("the state panics"));
    let caught = catch_unwind(AssertUnwindSafe(|| failing.save(&Acts(panics), marks[5]))).unwrap_err();
    assert_eq!((caught.downcast_ref::<&str>(), told.take()), (Some(&"the state panics"), ONCE.map(String::from).to_vec()));
}
