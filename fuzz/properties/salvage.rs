//! Salvage cuts records out of a line, and invents none.

use untorn::{Reader, Verdict, internals};

use super::{PATH, disk_with, file_of};

const HEALTHY: [&[u8]; 2] = [b"{\"k\":1}", b"{\"type\":\"message\",\"text\":\"hi\"}"];

/// What is salvaged are ranges of the line, in order and apart, each of them a record if it stood alone; of sealed ones, those whose numbers fit.
pub fn salvage(bytes: &[u8]) {
    let mut line = file_of(bytes);
    line.retain(|byte| *byte != b'\n');
    let mut free = 0;
    for (range, seq) in internals::salvage(&line, &HEALTHY, Some(9), Some(100)) {
        assert!(range.start >= free && range.start < range.end, "{range:?} again");
        free = range.end;
        let alone = [&line[range.clone()], b"\n"].concat();
        let mut reader = Reader::options().disk(&disk_with(&alone)).open(PATH).unwrap();
        let found = reader.next_line().unwrap().unwrap();
        // A line of a batch is torn when it stands alone.
        let expected: &[Verdict] = if seq.is_some() { &[Verdict::Sealed, Verdict::Torn] } else { &[Verdict::Plain] };
        assert!(expected.contains(&found.verdict()), "{:?} in {range:?}", found.verdict());
        assert!(seq.is_none_or(|seq| (10..100).contains(&seq)), "#{seq:?} is not between its neighbours");
    }
}
