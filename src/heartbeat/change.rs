//! Changes to a part of an instance: its attributes, and the operator's word.
//!
//! Owns: on which version a change is stored. Does not own: what a change may say (the API server), and the
//! write itself (`cluster`).

use std::sync::Arc;

use rollcall_core::slot::{Slot, Source};

use crate::heartbeat::{
    Change, Intake, Target,
    intake::{ATTEMPTS, changing},
    refusal::Refusal,
};
use crate::kubernetes::{body::Precondition, failure::Failure};

impl Intake {
    /// Stores a change, and answers when readers see it. It is no beat.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] with the fields that the API server refuses, among others.
    pub async fn change(&self, target: &Target<'_>, change: &Change) -> Result<Arc<Slot>, Refusal> {
        for _ in 0..ATTEMPTS {
            // Before the record: one of an earlier epoch proves nothing.
            let sent = self.directory.before_read();
            let record = self.find(target).await?.record();
            Refusal::unless_terminating(&record)?;
            let on = Precondition { uid: &record.uid, version: target.version };
            // One that changes nothing leaves the object in the version that it has.
            let sent = sent.of(record.resource_version);
            match self.writer.change(&record.key, on, change).await {
                Ok(written) => return self.show(written, Source::Annotation, sent).await,
                // Another incarnation, or another version than was meant: looking for it tells which.
                Err(Failure::NotFound(_) | Failure::Conflict(_)) => {
                    self.look_again(&record, sent).await?;
                }
                Err(failure) => return Err(failure.into()),
            }
        }
        Err(changing())
    }
}
