//! RFC 8259 syntax, checked without recursion.
//!
//! A text is walked once, byte by byte where tokens stand and 64 bytes at a time inside strings. The only memory
//! is one bit for each open array or object, so depth is limited by neither the stack nor a number: a line of a
//! hundred million `[` costs twelve megabytes and is then said to end early.
//!
//! What the RFC leaves open is settled for framing, where a record must not be lost because one reader dislikes it:
//!
//! - Numbers have no range, and members may repeat a key.
//! - An escaped lone surrogate (`"\ud800"`) is syntax, so it is legal, and noted for the reader that cannot decode it.
//! - Bytes must be UTF-8, without a byte order mark; `NaN` and `Infinity` are not JSON.

use std::fmt;

#[cfg(test)]
mod tests;

/// What a JSON value is, told by its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Object,
    Array,
    String,
    Number,
    /// `true`, `false` or `null`.
    Literal,
}

/// What is worth knowing about a value that is JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Valid {
    pub(crate) kind: Kind,
    /// Some string holds half of an escaped surrogate pair, which no Unicode string can.
    pub(crate) lone_surrogate: bool,
}

/// Where and why a payload stopped being JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invalid {
    /// The offset of the first byte that fits no JSON text; the length of the text if it only ends early.
    pub(crate) at: usize,
    pub(crate) reason: Reason,
}

impl Invalid {
    /// The offset in the payload of the first byte that fits no JSON text; its length if it only ends early.
    pub fn at(&self) -> usize {
        self.at
    }

    /// What is wrong, in a few words.
    pub fn reason(&self) -> impl fmt::Display + use<> {
        self.reason
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {} of the payload: {}", self.at, self.reason)
    }
}

impl std::error::Error for Invalid {}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// All bytes fit, and more are needed.
    EndsEarly,
    NotUtf8,
    ControlCharacter,
    UnknownEscape,
    ExpectedValue,
    ExpectedKey,
    ExpectedColon,
    ExpectedCommaOrEnd,
    ExpectedDigit,
    TrailingBytes,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EndsEarly => "the value ends early",
            Self::NotUtf8 => "invalid utf-8",
            Self::ControlCharacter => "a control character inside a string",
            Self::UnknownEscape => "an unknown escape inside a string",
            Self::ExpectedValue => "expected a value",
            Self::ExpectedKey => "expected a key",
            Self::ExpectedColon => "expected a colon",
            Self::ExpectedCommaOrEnd => "expected a comma or the closing bracket",
            Self::ExpectedDigit => "expected a digit",
            Self::TrailingBytes => "more bytes after the value",
        })
    }
}

/// Checks that `text` is exactly one JSON value, with white space allowed around and between its tokens.
pub(crate) fn validate(text: &[u8]) -> Result<Valid, Invalid> {
    let (valid, end) = first_value(text)?;
    let mut rest = Cursor { text, at: end, block: end, special: 0, lone_surrogate: false };
    match rest.peek_token() {
        None => Ok(valid),
        Some(byte) => Err(rest.refuse(byte, Reason::TrailingBytes)),
    }
}

/// Finds the JSON value that `text` begins with, white space before it allowed, and the offset just past it.
///
/// What follows the value is not looked at, so a bare number ends where its digits do.
pub(crate) fn first_value(text: &[u8]) -> Result<(Valid, usize), Invalid> {
    let mut cursor = Cursor::new(text);
    let walked = cursor.value();
    let at = walked.map_or_else(|invalid| invalid.at, |_| cursor.at);
    check_utf8_before(text, at)?;
    Ok((walked?, at))
}

/// Tells whether `text` begins a JSON value and does not finish it, so that only more bytes could make it one.
///
/// A UTF-8 sequence cut at the end of the text is unfinished too.
pub(crate) fn is_fragment(text: &[u8]) -> bool {
    validate(text).is_err_and(|invalid| invalid.reason == Reason::EndsEarly)
}

/// Appends `text`, which must be JSON, without the white space between its tokens; no token changes.
pub(crate) fn compact(text: &[u8], into: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(quote) = memchr::memchr(b'"', rest) {
        let (tokens, string_on) = rest.split_at(quote);
        let (string, after) = string_on.split_at(string_len(string_on));
        into.extend(tokens.iter().filter(|byte| !is_space(**byte)));
        into.extend_from_slice(string);
        rest = after;
    }
    into.extend(rest.iter().filter(|byte| !is_space(**byte)));
}

/// The raw bytes between the quotes of the first key, if `text` begins with an object that has one.
pub(crate) fn first_key(text: &[u8]) -> Option<&[u8]> {
    let mut cursor = Cursor::new(text);
    cursor.take_token(b'{').then_some(())?;
    cursor.take_token(b'"').then_some(())?;
    let start = cursor.at;
    cursor.string().ok()?;
    text.get(start..cursor.at.checked_sub(1)?)
}

/// The length of the string that `text` begins with, both quotes included.
fn string_len(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(found) = memchr::memchr2(b'"', b'\\', text.get(at..).unwrap_or_default()) {
        at += found;
        if text.get(at) == Some(&b'"') {
            return at + 1;
        }
        at += b"\\\"".len();
    }
    text.len()
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// A place in the text.
///
/// What moves it is inlined, and what is not gets a copy: so all of it stays in registers, which is most of the speed.
#[derive(Clone, Copy)]
struct Cursor<'a> {
    text: &'a [u8],
    /// Never greater than the length of `text`.
    at: usize,
    /// Where the block starts that `special` speaks of. Never greater than `at`.
    block: usize,
    /// Which bytes of the block end or interrupt a string; see [`special_bytes`].
    special: u64,
    lone_surrogate: bool,
}

impl<'a> Cursor<'a> {
    fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0, block: 0, special: special_bytes(text, 0), lone_surrogate: false }
    }

    /// Moves past one value. Bytes of strings are taken as they come: UTF-8 is checked afterwards, once.
    #[inline(always)]
    fn value(&mut self) -> Result<Valid, Invalid> {
        let kind = self.kind()?;
        let mut open = Nesting::default();
        let mut is_behind = false;
        loop {
            // Up to the next string, and into it.
            let mut is_key = 'token: loop {
                if !is_behind {
                    match self.kind()? {
                        Kind::String => {
                            self.at += 1;
                            break false;
                        }
                        Kind::Object => {
                            self.at += 1;
                            if !self.take_token(b'}') {
                                open.push(Container::Object);
                                self.expect_token(b'"', Reason::ExpectedKey)?;
                                break true;
                            }
                        }
                        Kind::Array => {
                            self.at += 1;
                            if !self.take_token(b']') {
                                open.push(Container::Array);
                                continue;
                            }
                        }
                        Kind::Number => self.number()?,
                        Kind::Literal => self.literal()?,
                    }
                }
                // A value ends here, and with it every container that closes right behind.
                loop {
                    let Some(container) = open.innermost() else {
                        return Ok(Valid { kind, lone_surrogate: self.lone_surrogate });
                    };
                    match (self.peek_token(), container) {
                        (Some(b','), Container::Object) => {
                            self.at += 1;
                            self.expect_token(b'"', Reason::ExpectedKey)?;
                            break 'token true;
                        }
                        (Some(b','), Container::Array) => {
                            self.at += 1;
                            break;
                        }
                        (Some(b'}'), Container::Object) | (Some(b']'), Container::Array) => {
                            self.at += 1;
                            open.pop();
                        }
                        (Some(byte), _) => return Err(self.refuse(byte, Reason::ExpectedCommaOrEnd)),
                        (None, _) => return Err(self.ends_early()),
                    }
                }
                is_behind = false;
            };
            // Through strings, as long as only what separates a key from its value, or a value from the next key, is between them.
            is_behind = loop {
                self.string()?;
                if !is_key {
                    if open.innermost() != Some(Container::Object) || !self.take_pair(b",\"") {
                        break true;
                    }
                    is_key = true;
                } else if self.take_pair(b":\"") {
                    is_key = false;
                } else {
                    self.expect_token(b':', Reason::ExpectedColon)?;
                    break false;
                }
            };
        }
    }

    /// What the next value is; stays in front of it.
    #[inline(always)]
    fn kind(&mut self) -> Result<Kind, Invalid> {
        match self.peek_token() {
            Some(b'"') => Ok(Kind::String),
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(b't' | b'f' | b'n') => Ok(Kind::Literal),
            Some(byte) => Err(self.refuse(byte, Reason::ExpectedValue)),
            None => Err(self.ends_early()),
        }
    }

    /// Moves past the rest of a string and its closing quote; the opening one is behind.
    #[inline(always)]
    fn string(&mut self) -> Result<(), Invalid> {
        loop {
            self.skip_plain_characters();
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => match self.text.get(self.at + 1) {
                    Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
                    _ => (self.at, self.lone_surrogate) = self.unicode_escape()?,
                },
                Some(_) => return Err(self.invalid(Reason::ControlCharacter)),
                None => return Err(self.ends_early()),
            }
        }
    }

    /// Moves to the next quote, backslash or control character, or to the end of the text.
    #[inline(always)]
    fn skip_plain_characters(&mut self) {
        loop {
            let behind = self.at - self.block;
            if behind < BLOCK_BYTES {
                let special = self.special >> behind;
                if special != 0 {
                    self.at += special.trailing_zeros() as usize;
                    return;
                }
                self.at = self.block + BLOCK_BYTES;
            }
            self.block = self.at;
            self.special = special_bytes(self.text, self.at);
        }
    }

    /// Gives the place behind an escape that starts with `\u` and behind the other half of its surrogate pair, and whether a half was alone yet.
    #[inline(never)]
    fn unicode_escape(mut self) -> Result<(usize, bool), Invalid> {
        self.at += 1;
        match self.peek() {
            Some(b'u') => self.at += 1,
            Some(byte) => return Err(self.refuse(byte, Reason::UnknownEscape)),
            None => return Err(self.ends_early()),
        }
        match self.code_unit()? {
            0xD800..0xDC00 => self.low_surrogate()?,
            0xDC00..0xE000 => self.lone_surrogate = true,
            _ => {}
        }
        Ok((self.at, self.lone_surrogate))
    }

    /// Moves past the escape that completes a pair, or notes that the half behind is alone.
    fn low_surrogate(&mut self) -> Result<(), Invalid> {
        let high_end = self.at;
        if self.rest().starts_with(b"\\u") {
            self.at += b"\\u".len();
            if (0xDC00..0xE000).contains(&self.code_unit()?) {
                return Ok(());
            }
            self.at = high_end;
        }
        self.lone_surrogate = true;
        Ok(())
    }

    /// Reads the four hex digits of a `\u` escape.
    fn code_unit(&mut self) -> Result<u32, Invalid> {
        let mut unit = 0;
        for _ in 0..4 {
            let byte = self.peek().ok_or(self.ends_early())?;
            let digit = char::from(byte).to_digit(16).ok_or_else(|| self.refuse(byte, Reason::UnknownEscape))?;
            unit = unit << 4 | digit;
            self.at += 1;
        }
        Ok(unit)
    }

    #[inline(always)]
    fn number(&mut self) -> Result<(), Invalid> {
        self.take(|byte| byte == b'-');
        if !self.take(|byte| byte == b'0') {
            self.digits()?;
        }
        if self.take(|byte| byte == b'.') {
            self.digits()?;
        }
        if self.take(|byte| matches!(byte, b'e' | b'E')) {
            self.take(|byte| matches!(byte, b'+' | b'-'));
            self.digits()?;
        }
        Ok(())
    }

    /// Moves past one digit or more.
    #[inline(always)]
    fn digits(&mut self) -> Result<(), Invalid> {
        match self.peek() {
            Some(b'0'..=b'9') => {}
            Some(byte) => return Err(self.refuse(byte, Reason::ExpectedDigit)),
            None => return Err(self.ends_early()),
        }
        while self.take(|byte| byte.is_ascii_digit()) {}
        Ok(())
    }

    #[inline(always)]
    fn literal(&mut self) -> Result<(), Invalid> {
        let word: &[u8] = match self.peek() {
            Some(b't') => b"true",
            Some(b'f') => b"false",
            _ => b"null",
        };
        if self.rest().starts_with(word) {
            self.at += word.len();
            return Ok(());
        }
        Err(self.misspelt(word))
    }

    #[cold]
    fn misspelt(mut self, word: &[u8]) -> Invalid {
        for letter in word {
            match self.peek() {
                Some(byte) if byte == *letter => self.at += 1,
                Some(byte) => return self.refuse(byte, Reason::ExpectedValue),
                None => break,
            }
        }
        self.ends_early()
    }

    #[inline(always)]
    fn rest(&self) -> &'a [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    #[inline(always)]
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// Moves past two bytes if they come next.
    #[inline(always)]
    fn take_pair(&mut self, pair: &[u8; 2]) -> bool {
        if self.rest().first_chunk() != Some(pair) {
            return false;
        }
        self.at += pair.len();
        true
    }

    /// Moves past white space and looks at what follows it.
    #[inline(always)]
    fn peek_token(&mut self) -> Option<u8> {
        let mut next = self.peek();
        while let Some(byte) = next
            && is_space(byte)
        {
            self.at += 1;
            next = self.peek();
        }
        next
    }

    /// Moves past the next byte if `wanted` says so.
    #[inline(always)]
    fn take(&mut self, wanted: impl Fn(u8) -> bool) -> bool {
        if !self.peek().is_some_and(wanted) {
            return false;
        }
        self.at += 1;
        true
    }

    #[inline(always)]
    fn take_token(&mut self, token: u8) -> bool {
        if self.peek_token() != Some(token) {
            return false;
        }
        self.at += 1;
        true
    }

    #[inline(always)]
    fn expect_token(&mut self, token: u8, otherwise: Reason) -> Result<(), Invalid> {
        match self.peek_token() {
            Some(byte) if byte == token => {
                self.at += 1;
                Ok(())
            }
            Some(byte) => Err(self.refuse(byte, otherwise)),
            None => Err(self.ends_early()),
        }
    }

    /// Refuses `byte`, which is the next one: it does not fit here, or fits no text at all.
    #[cold]
    fn refuse(self, byte: u8, reason: Reason) -> Invalid {
        let starts_character = self.rest().utf8_chunks().next().is_some_and(|chunk| !chunk.valid().is_empty());
        if byte.is_ascii() || starts_character { self.invalid(reason) } else { self.invalid(Reason::NotUtf8) }
    }

    #[inline(always)]
    fn ends_early(&self) -> Invalid {
        self.invalid(Reason::EndsEarly)
    }

    #[inline(always)]
    fn invalid(&self, reason: Reason) -> Invalid {
        Invalid { at: self.at, reason }
    }
}

/// The text before `at` is UTF-8, unless it ends the text inside a sequence: more bytes could complete that one.
fn check_utf8_before(text: &[u8], at: usize) -> Result<(), Invalid> {
    let before = text.get(..at).unwrap_or(text);
    if simdutf8::basic::from_utf8(before).is_ok() {
        return Ok(());
    }
    match str::from_utf8(before) {
        Err(error) if error.error_len().is_some() || at < text.len() => Err(Invalid { at: error.valid_up_to(), reason: Reason::NotUtf8 }),
        _ => Ok(()),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Container {
    Object,
    Array,
}

/// The open containers, one bit each; a set bit is an object.
#[derive(Default)]
struct Nesting {
    /// The innermost levels, the last one lowest.
    inner: u64,
    /// Outer levels, 64 to a word.
    outer: Vec<u64>,
    depth: usize,
}

impl Nesting {
    #[inline(always)]
    fn push(&mut self, container: Container) {
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.outer.push(self.inner);
        }
        self.inner = self.inner << 1 | u64::from(container == Container::Object);
        self.depth += 1;
    }

    #[inline(always)]
    fn pop(&mut self) {
        self.inner >>= 1;
        self.depth -= 1;
        if self.depth.is_multiple_of(64) {
            self.inner = self.outer.pop().unwrap_or_default();
        }
    }

    #[inline(always)]
    fn innermost(&self) -> Option<Container> {
        match self.inner & 1 {
            _ if self.depth == 0 => None,
            0 => Some(Container::Array),
            _ => Some(Container::Object),
        }
    }
}

/// As many bytes as a word has bits.
const BLOCK_BYTES: usize = u64::BITS as usize;

/// One bit for each byte of `text` from `at` on, set where a byte cannot stand in a string as it is, or where the text has ended.
#[inline(never)]
fn special_bytes(text: &[u8], at: usize) -> u64 {
    let rest = text.get(at..).unwrap_or_default();
    match rest.first_chunk() {
        Some(block) => special_in(block),
        None => special_at_end(text, rest),
    }
}

/// The same where `text` ends in `rest`, inside the block. What is missing behind it is made up for in front.
#[inline(never)]
fn special_at_end(text: &[u8], rest: &[u8]) -> u64 {
    let missing = BLOCK_BYTES - rest.len().min(BLOCK_BYTES);
    if missing == BLOCK_BYTES {
        return u64::MAX;
    }
    let bits = match text.last_chunk() {
        Some(block) => special_in(block),
        None => {
            let mut block = [0; BLOCK_BYTES];
            block.iter_mut().skip(missing).zip(rest).for_each(|(to, from)| *to = *from);
            special_in(&block)
        }
    };
    bits >> missing | !(u64::MAX >> missing)
}

/// One bit for each byte of a block.
#[inline(always)]
fn special_in(block: &[u8; BLOCK_BYTES]) -> u64 {
    // With one bit changed a quote stands right behind the control characters, and these stay where they are. Compilers turn these comparisons into
    // vector code, sixteen bytes or more to an instruction.
    let flags = block.map(|byte| u8::from((byte ^ 0x02 <= b' ') | (byte == b'\\')));
    // The product gathers the flags of eight bytes in its highest one.
    let (words, _) = flags.as_chunks();
    words.iter().fold(0, |bits, word| {
        let gathered = u64::from_le_bytes(*word).wrapping_mul(0x0102_0408_1020_4080) & 0xFF << 56;
        bits >> 8 | gathered
    })
}
