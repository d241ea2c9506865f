//! What a reader of the registry needs: instances, views of services, selection and names.
//!
//! Owns: the vocabulary, the facts of an instance, moments and leases, views and their revisions, the functions that
//! select, order and name. Does not own: whether an instance is alive (`rollcall-core`), what Kubernetes stores
//! (`rollcall-api`), any I/O, task or clock.

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
