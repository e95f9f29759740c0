//! Pages that answer a question rather than describe an item.

#[doc = include_str!("cost.md")]
pub mod cost {}
