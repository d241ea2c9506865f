//! Tests of the pure part of DNS, with a directory that a real catalog publishes.

mod answers;
mod existence;
mod messages;
mod rfc;
mod selectors;
mod sizes;
mod texts;
mod world;
