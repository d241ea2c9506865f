//! The types that code needs in order to read the registry: instances, views of services, selection and
//! names.
//!
//! Owns: the vocabulary, the facts of an instance, moments and leases, views and their revisions, and the
//! functions that select, order and name. Does not own: whether an instance is live (`rollcall-core`), what
//! Kubernetes stores (`rollcall-api`), and any I/O, task or clock.

pub mod condition;
pub mod defaults;
pub mod installation;
pub mod instance;
pub mod lease;
pub mod naming;
pub mod registration;
pub mod select;
pub mod selector;
pub mod view;
pub mod vocabulary;
