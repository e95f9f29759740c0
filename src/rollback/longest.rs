//! Finding what landed of a writer's lines among the lines of others.

use super::common;
use crate::format::LF;

/// Where the longest piece of `ours`, from its first byte on, stands in `found`: behind an LF, or at the start if that is a boundary. And its length.
///
/// One pass, as Knuth, Morris and Pratt search, with lines for letters: when many lines are equal, nothing is compared over and over.
pub(super) fn piece(found: &[u8], ours: &[u8], at_start: bool) -> (usize, usize) {
    let ends = ours.iter().enumerate().filter(|(_, byte)| **byte == LF).map(|(lf, _)| lf + 1);
    let starts: Vec<usize> = std::iter::once(0).chain(ends).collect();
    let start_of = |line: usize| starts.get(line).copied().unwrap_or(ours.len());
    let line = |line: usize| ours.get(start_of(line)..start_of(line + 1)).unwrap_or_default();
    // For the first so many lines: how many of them, but not all, are the last of them again.
    let mut again = vec![0, 0];
    let shorter = |again: &[usize], lines: usize| again.get(lines).copied().unwrap_or(0);
    for end in 1..starts.len().saturating_sub(1) {
        let mut lines = shorter(&again, end);
        while lines > 0 && line(lines) != line(end) {
            lines = shorter(&again, lines);
        }
        again.push(lines + usize::from(line(lines) == line(end)));
    }
    let mut longest = (0, 0);
    let (mut next, mut lines) = (0, 0);
    for text in found.split_inclusive(|byte| *byte == LF) {
        let at = next;
        next += text.len();
        if at == 0 && !at_start {
            continue;
        }
        loop {
            let same = common(text, line(lines));
            let piece = start_of(lines) + same;
            if piece > longest.1 {
                longest = (at - start_of(lines), piece);
            }
            if same == text.len() && same == line(lines).len() {
                lines += 1;
                break;
            }
            if lines == 0 {
                break;
            }
            lines = shorter(&again, lines);
        }
    }
    longest
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test that fails should say where")]
mod tests {
    use super::*;

    /// The longest piece, and the first of several that are equally long, is the one that trying every place finds.
    #[test]
    fn the_longest_piece_is_found_whatever_the_lines() {
        let every_text = |letters: &'static [u8], len: u32| {
            (0..letters.len().pow(len)).map(move |text| (0..len).map(|at| letters[text / letters.len().pow(at) % letters.len()]).collect::<Vec<_>>())
        };
        for (letters, ours_max, found_max) in [(&b"a\n"[..], 6, 9), (b"ab\n", 4, 6)] {
            for ours in (1..=ours_max).flat_map(|len| every_text(letters, len)) {
                for found in (0..=found_max).flat_map(|len| every_text(letters, len)) {
                    for first in [0, 1] {
                        let places =
                            std::iter::once(0).chain(found.iter().enumerate().filter(|(_, byte)| **byte == LF).map(|(lf, _)| lf + 1)).skip(first);
                        let tried = places.map(|at| (at, common(&found[at..], &ours)));
                        let expected = tried.filter(|(_, len)| *len > 0).max_by_key(|(at, len)| (*len, std::cmp::Reverse(*at))).unwrap_or_default();
                        assert_eq!(piece(&found, &ours, first == 0), expected, "{found:?}, {ours:?}, {first}");
                    }
                }
            }
        }
    }
}
