//! Replay.
pub mod columns;
pub mod dates;
pub mod matching;
pub mod plan;
pub mod reader;
pub mod rules;
pub mod sku;
pub mod survey;
