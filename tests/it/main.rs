//! What untorn promises, one file per concept; the names of the tests are the promises.

mod verify;
