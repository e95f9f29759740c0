//! One line's bytes, with what stands around its text: a byte order mark, white space, a CR.

use super::{BOM, seal};

/// The bytes of one line without its LF, told apart from what surrounds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Framed<'a> {
    /// Without byte order mark, and without space, tab or CR at the end: what a seal is looked for in.
    pub(crate) text: &'a [u8],
    /// Bytes of a byte order mark before the text: 3, or 0.
    pub(crate) bom: usize,
    /// Whether the last byte before the LF was a CR.
    pub(crate) crlf: bool,
}

impl<'a> Framed<'a> {
    /// Frames the bytes between two LFs. Only the line at offset 0 of a file can have a byte order mark.
    pub(crate) fn new(bytes: &'a [u8], starts_file: bool) -> Framed<'a> {
        let crlf = bytes.ends_with(b"\r");
        let (bom, rest) = match bytes.strip_prefix(BOM) {
            Some(rest) if starts_file => (BOM.len(), rest),
            _ => (0, bytes),
        };
        let kept = rest.iter().rposition(|byte| !seal::is_space(*byte)).map_or(0, |last| last + 1);
        Framed { text: rest.get(..kept).unwrap_or_default(), bom, crlf }
    }

    pub(crate) fn shape(&self) -> seal::Shape {
        seal::shape(self.text)
    }

    /// The text without white space before it: of a plain line, the payload.
    pub(crate) fn payload(&self) -> &'a [u8] {
        let indent = self.text.iter().position(|byte| !seal::is_space(*byte)).unwrap_or(self.text.len());
        self.text.get(indent..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C18, C19, C20: a byte order mark, a CR and white space are no part of a line's text.
    #[test]
    fn what_surrounds_the_text_is_told_apart() {
        let framed = Framed::new(b"\xEF\xBB\xBF {} \t\r", true);
        assert_eq!((framed.text, framed.payload(), framed.bom, framed.crlf), (&b" {}"[..], &b"{}"[..], 3, true));
        assert_eq!(Framed::new(b"\xEF\xBB\xBF{}", false).text, b"\xEF\xBB\xBF{}");
        assert_eq!(Framed::new(b" \t\r", true).payload(), b"");
    }
}
