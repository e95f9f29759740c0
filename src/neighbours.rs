//! What the lines before a corrupt one tell about it: how records begin here, and which number came last.

use crate::{
    format::verdict::Code,
    judge::Found,
    salvage::{self, Context, FirstKeys},
};

/// From so many records it is learnt how records begin. It only serves to name damage, and costs about as much as decoding.
const RECORDS_LEARNT_MAX: u32 = 64;

/// Learnt from the records of one file as they are walked over.
#[derive(Debug, Default)]
pub(crate) struct Neighbours {
    first_keys: FirstKeys,
    learnt: u32,
    /// The number of the sealed line met last.
    last_seq: Option<u64>,
}

impl Neighbours {
    /// Takes note of a line; `bytes` are what was judged.
    pub(crate) fn learn(&mut self, found: &Found, bytes: &[u8]) {
        if !found.is_record() {
            return;
        }
        self.last_seq = found.seal.map(|seal| seal.seq).or(self.last_seq);
        if self.learnt < RECORDS_LEARNT_MAX {
            self.learnt += 1;
            self.first_keys.learn(bytes.get(found.text.clone()).unwrap_or_default());
        }
    }

    /// What is wrong with a line whose own bytes say `code`.
    pub(crate) fn code(&self, code: Code, found: &Found, bytes: &[u8]) -> Code {
        if matches!(code, Code::TooLong | Code::NewerFormat | Code::Unreadable) {
            return code;
        }
        let text = bytes.get(found.text.clone()).unwrap_or_default();
        salvage::salvage(text, &Context { first_keys: &self.first_keys, after: self.last_seq, before: None }).code
    }
}
