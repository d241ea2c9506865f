//! Tests of the pure part of DNS, on a directory that a real catalog published.

mod answers;
mod existence;
mod messages;
mod rfc;
mod selectors;
mod sizes;
mod texts;
mod world;
