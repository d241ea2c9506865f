//! Stages: tasks that begin together, are watched together, and end together within a deadline.
//!
//! Every task has a name, which all that it logs bears, and its end before the stage's is the end of
//! the process: nothing in a replica may be missing. Does not own: which tasks, and in which order they end (`drain`).

use std::{future::Future, time::Duration};

use tokio::{
    task::{JoinError, JoinSet},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, error_span, warn};

/// The end of a task: its name, and what it says.
type End = Result<(&'static str, anyhow::Result<()>), JoinError>;

/// Some tasks of a replica.
pub(super) struct Stage {
    name: &'static str,
    stop: CancellationToken,
    running: JoinSet<(&'static str, anyhow::Result<()>)>,
}

impl Stage {
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, stop: CancellationToken::new(), running: JoinSet::new() }
    }

    /// Runs a task that ends by itself once it is told to stop.
    pub(super) fn spawn<F>(&mut self, name: &'static str, task: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let task = task(self.stop.clone());
        // Of the highest level, so that it stands beside warnings, too.
        let span = error_span!("task", task = name);
        self.running.spawn(async move { (name, task.await) }.instrument(span));
    }

    /// Runs a task that may be left at any await.
    pub(super) fn spawn_until(
        &mut self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        self.spawn(name, |stop| async move {
            stop.run_until_cancelled(task).await;
            Ok(())
        });
    }

    /// Waits, without a deadline, for the end of any task: none should come. Answers why it did.
    pub(super) async fn failed(&mut self) -> String {
        match self.running.join_next().await {
            Some(end) => last_words(end),
            None => format!("the stage {} has no task left", self.name),
        }
    }

    /// Waits until every task has ended by itself, for `limit` at most.
    pub(super) async fn wait(&mut self, limit: Duration) {
        let ended = async { while self.running.join_next().await.is_some() {} };
        if timeout(limit, ended).await.is_err() {
            warn!(stage = self.name, "not ended within {limit:?}");
        }
    }

    /// Ends the stage; what has not ended within `limit` is cut off.
    pub(super) async fn stop(&mut self, limit: Duration) {
        self.stop.cancel();
        let ended = async {
            while let Some(end) = self.running.join_next().await {
                if !matches!(end, Ok((_, Ok(())))) {
                    warn!("while stopping: {}", last_words(end));
                }
            }
        };
        if timeout(limit, ended).await.is_err() {
            let left = self.running.len();
            warn!(stage = self.name, left, "not ended within {limit:?}: cut off");
            self.running.abort_all();
        }
    }
}

fn last_words(end: End) -> String {
    match end {
        Ok((name, Ok(()))) => format!("the task {name} has ended"),
        Ok((name, Err(error))) => format!("the task {name} has ended: {error:#}"),
        Err(error) => format!("a task broke down: {error}"),
    }
}
