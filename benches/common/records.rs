//! What is appended everywhere: messages of an agent's session, with escapes and letters beyond ASCII in their text.
//!
//! The same records come out on each run and on each machine. Of each size there are enough for no cache to learn them by heart, and few enough to
//! stay in it.

use serde::{Deserialize, Serialize};

/// One message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Which kind of record it is.
    pub r#type: String,
    /// Its own name.
    pub id: String,
    /// The message that it answers.
    pub parent: Option<String>,
    /// When it was said.
    pub timestamp: String,
    /// Who said it.
    pub role: String,
    /// What was said.
    pub text: String,
    /// What it took.
    pub usage: Usage,
}

/// What a message took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens read.
    pub input: u32,
    /// Tokens written.
    pub output: u32,
    /// Seconds.
    pub took: f64,
    /// Whether an earlier answer was used again.
    pub cached: bool,
}

/// How many different records there are.
pub const COUNT: usize = 256;

/// How large records are on average: a message, and a message with a piece of a file in it.
pub const SMALL: usize = 292;
/// See [`SMALL`].
pub const LARGE: usize = 3712;

/// Records of one size, as values, as JSON, and as lines.
#[derive(Debug)]
pub struct Records {
    /// `300B` or `4KB`.
    pub size: &'static str,
    typed: Vec<Message>,
    /// The same, serialised, with an LF behind each.
    lines: Vec<Vec<u8>>,
}

impl Records {
    /// Of some 300 bytes.
    pub fn small() -> Records {
        Records::of("300B", SMALL)
    }

    /// Of some 4 KB.
    pub fn large() -> Records {
        Records::of("4KB", LARGE)
    }

    fn of(size: &'static str, mean: usize) -> Records {
        let mut chance = Chance(mean as u64);
        let typed: Vec<Message> = (0..COUNT).map(|number| message(number, mean, &mut chance)).collect();
        let lines = typed.iter().map(|message| [&serde_json::to_vec(message).unwrap()[..], b"\n"].concat()).collect();
        Records { size, typed, lines }
    }

    /// A record. After the last one comes the first one again.
    pub fn typed(&self, number: u64) -> &Message {
        &self.typed[number as usize % COUNT]
    }

    /// The same as JSON.
    pub fn json(&self, number: u64) -> &[u8] {
        self.line(number).strip_suffix(b"\n").unwrap()
    }

    /// The same as a line.
    pub fn line(&self, number: u64) -> &[u8] {
        &self.lines[number as usize % COUNT]
    }
}

/// About as many escapes, and letters beyond ASCII, as real sessions have: of a thousand bytes from four to fourteen are backslashes, and from six to
/// twenty-four are not ASCII.
const WORDS: &[&str] = &[
    "the",
    "file",
    "is",
    "written",
    "once",
    "and",
    "then",
    "synced",
    "by",
    "its",
    "writer",
    "which",
    "holds",
    "lock",
    "until",
    "it",
    "has",
    "read",
    "what",
    "src/main.rs",
    "says",
    "of",
    "lines",
    "that",
    "were",
    "torn",
    "before",
    "so",
    "no",
    "record",
    "is",
    "lost",
    "let",
    "x",
    "=",
    "1;",
    "return",
    "self.end",
    "42",
    "of",
    "session",
    "a",
    "longer-word-than-most",
    "fn",
    "tests",
    "pass",
    "now",
    "\n",
    "\n   ",
    "\"quoted\"",
    "naïve",
    "für",
    "→",
];

fn message(number: usize, mean: usize, chance: &mut Chance) -> Message {
    let name = |number: usize| format!("msg_{:016x}", (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut message = Message {
        r#type: "message".into(),
        id: name(number),
        parent: (number > 0).then(|| name(number - 1)),
        timestamp: format!("2026-03-01T12:{:02}:{:02}.{:03}Z", number / 60 % 60, number % 60, chance.below(1000)),
        role: if number.is_multiple_of(2) { "user" } else { "assistant" }.into(),
        text: String::new(),
        usage: Usage {
            input: chance.below(90_000),
            output: chance.below(4_000),
            took: f64::from(chance.below(90_000)) / 1000.0,
            cached: chance.below(2) == 1,
        },
    };
    // From two thirds to four thirds of the mean, in equal steps.
    let wanted = mean * 2 / 3 + mean * 2 / 3 * number / COUNT;
    while serde_json::to_vec(&message).unwrap().len() + 1 < wanted {
        message.text.push_str(WORDS[chance.below(WORDS.len() as u32) as usize]);
        message.text.push(' ');
    }
    message
}

/// The same numbers each time.
#[derive(Debug)]
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as u32 % limit
    }
}
