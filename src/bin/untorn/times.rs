//! When records were made, as they tell it themselves: by the first member whose name and value look like a time.

use std::fmt;

use jiff::Timestamp;
use serde::{
    Deserialize,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// What a time is called.
const NAMES: [&str; 8] = ["timestamp", "time", "ts", "at", "date", "datetime", "created_at", "createdAt"];

/// The span of time that records cover. Their order does not matter.
#[derive(Debug, Default)]
pub(crate) struct Times {
    name: Option<&'static str>,
    span: Option<(Timestamp, Timestamp)>,
}

impl Times {
    pub(crate) fn add(&mut self, payload: &[u8]) {
        let Ok(Members(found)) = serde_json::from_slice(payload) else { return };
        let Some((name, time)) = found.filter(|(name, _)| self.name.is_none_or(|known| known == *name)) else { return };
        self.name = Some(name);
        let (first, last) = self.span.unwrap_or((time, time));
        self.span = Some((first.min(time), last.max(time)));
    }

    /// What the member is called, and the first and the last time.
    pub(crate) fn span(&self) -> Option<(&'static str, Timestamp, Timestamp)> {
        self.span.and_then(|(first, last)| Some((self.name?, first, last)))
    }
}

/// The time among the members of an object, if there is one.
struct Members(Option<(&'static str, Timestamp)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Members, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Members, A::Error> {
                let mut found = None;
                while let Some(key) = members.next_key::<std::borrow::Cow<'_, str>>()? {
                    match NAMES.iter().find(|name| **name == key) {
                        Some(name) if found.is_none() => found = time(members.next_value::<&RawValue>()?.get()).map(|time| (*name, time)),
                        _ => drop(members.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(Members(found))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

/// Reads RFC 3339, or seconds, milliseconds, microseconds or nanoseconds since 1970: whichever gives a time that a record may have.
fn time(value: &str) -> Option<Timestamp> {
    if let Some(text) = value.strip_prefix('"') {
        return text.strip_suffix('"')?.parse().ok();
    }
    let number: f64 = value.parse().ok()?;
    // From 2001 on, these ranges do not overlap until the year 5138.
    let seconds = [1.0, 1e3, 1e6, 1e9].iter().map(|unit| number / unit).find(|seconds| (1e9..1e11).contains(seconds))?;
    #[expect(clippy::cast_possible_truncation, reason = "it is below 1e11")]
    Timestamp::from_second(seconds as i64).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        for text in ["\"2026-11-21T04:02:44Z\"", "\"2026-11-21T05:02:44.5+01:00\"", "1795233764", "1795233764.25", "1795233764000"] {
            assert_eq!(time(text).map(Timestamp::as_second), Some(1_795_233_764), "{text}");
        }
        for text in ["\"soon\"", "7", "null", "[1]", "\""] {
            assert_eq!(time(text), None, "{text}");
        }
    }
}
