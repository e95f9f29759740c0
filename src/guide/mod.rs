//! Pages for whoever has a question that no single type answers. There is no code here.

#[doc = include_str!("cost.md")]
pub mod cost {}

#[doc = include_str!("migrating.md")]
pub mod migrating {}

#[doc = include_str!("pipes.md")]
pub mod pipes {}
