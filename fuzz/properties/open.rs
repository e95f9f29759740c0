//! Opening changes the tail and nothing else, whatever the file holds.

use untorn::{Code, ErrorKind, Reader, Rollback, Start, Unterminated, Writer};

use super::{PATH, disk_with, file_of, quarantine};

const NEXT: &[u8] = b"{\"after\":\"opening\"}";

/// The file ends on a boundary; every line before the tail is kept; what was taken out is in quarantine; the second time there is nothing to do.
pub fn open(bytes: &[u8]) {
    let [manner, bytes @ ..] = bytes else { return };
    let before = file_of(bytes);
    let disk = disk_with(&before);
    let mut options = Writer::options();
    options.disk(&disk).window_bytes(100);
    options.rollback(if manner & 1 == 0 { Rollback::Cut } else { Rollback::Fence });
    options.unterminated(if manner & 2 == 0 { Unterminated::Keep } else { Unterminated::Quarantine });

    let opened = options.open(PATH).map(|writer| writer.tail_repair().clone());
    let after = disk.read_file(PATH).unwrap();
    let repair = match opened {
        Ok(repair) => repair,
        Err(error) => {
            let is_refused = matches!(error.kind(), ErrorKind::NewerFormat | ErrorKind::Compressed);
            assert!(is_refused && after == before, "{error}: {}", after.escape_ascii());
            return;
        }
    };
    assert!(after.ends_with(b"\n") || after.is_empty() || after == b"\xEF\xBB\xBF", "no boundary at the end: {}", after.escape_ascii());
    let kept = repair.removed().map_or(before.len(), |removed| removed.start.offset as usize);
    let lines = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    assert!(kept >= lines || repair.reason() == Some(Code::OpenBatch), "a whole line was taken out: {repair}");
    let added = after.strip_prefix(&before[..kept]);
    assert!(matches!(added, Some(b"" | b"\n" | b"#\n")), "{repair}: {}", after.escape_ascii());
    quarantine::check(&disk, &before, &repair).unwrap();

    let mut writer = options.open(PATH).unwrap();
    let again = writer.tail_repair();
    if again.reason() == Some(Code::OpenBatch) && repair.reason() == Some(Code::OpenBatch) {
        // In front of an open batch another one ended the file; one is taken out at a time.
        return;
    }
    assert!(again.is_clean() || again.left_open_batch(), "the second time: {again}");
    assert_eq!(disk.read_file(PATH).unwrap(), after);
    writer.append_json(NEXT).unwrap();
    let mut reader = Reader::options().disk(&disk).from(Start::Last(1)).open(PATH).unwrap();
    assert_eq!(reader.next_line().unwrap().unwrap().payload(), Some(NEXT));
}
