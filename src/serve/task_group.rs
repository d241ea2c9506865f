//! Groups of tasks that start together, are supervised together, and are stopped together within a deadline.
//!
//! Owns: the supervision. Every task has a name, which is a span around all its log lines. If a task ends before its
//! group is stopped, the process ends, because a replica needs all its tasks. Does not own: the tasks (`build`), and
//! the order in which the groups are stopped (`drain`).

use std::{future::Future, time::Duration};

use tokio::{
    task::{JoinError, JoinSet},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, error_span, warn};

/// The name of a task that has ended, and its result.
type TaskEnd = Result<(&'static str, anyhow::Result<()>), JoinError>;

/// A named group of tasks.
pub(super) struct TaskGroup {
    name: &'static str,
    stop: CancellationToken,
    running: JoinSet<(&'static str, anyhow::Result<()>)>,
}

impl TaskGroup {
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, stop: CancellationToken::new(), running: JoinSet::new() }
    }

    /// Runs a task that ends by itself once its token is cancelled.
    pub(super) fn spawn<F>(&mut self, name: &'static str, task: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let task = task(self.stop.clone());
        // At the highest level, so that warnings and errors carry it as well.
        let span = error_span!("task", task = name);
        self.running.spawn(async move { (name, task.await) }.instrument(span));
    }

    /// Runs a task that can be dropped at any await.
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

    /// Waits, without a deadline, until a task ends unexpectedly. Returns why it ended.
    pub(super) async fn failed(&mut self) -> String {
        match self.running.join_next().await {
            Some(end) => describe_end(end),
            None => format!("no task of the group {} is left", self.name),
        }
    }

    /// Waits until every task has ended by itself, for `limit` at most.
    pub(super) async fn wait(&mut self, limit: Duration) {
        let ended = async { while self.running.join_next().await.is_some() {} };
        if timeout(limit, ended).await.is_err() {
            warn!(group = self.name, "some tasks did not end within {limit:?}");
        }
    }

    /// Stops the group. Tasks that have not ended within `limit` are aborted.
    pub(super) async fn stop(&mut self, limit: Duration) {
        self.stop.cancel();
        let ended = async {
            while let Some(end) = self.running.join_next().await {
                if !matches!(end, Ok((_, Ok(())))) {
                    warn!("while stopping: {}", describe_end(end));
                }
            }
        };
        if timeout(limit, ended).await.is_err() {
            let left = self.running.len();
            warn!(
                group = self.name,
                left, "some tasks did not end within {limit:?} and are aborted"
            );
            self.running.abort_all();
        }
    }
}

fn describe_end(end: TaskEnd) -> String {
    match end {
        Ok((name, Ok(()))) => format!("the task {name} has ended"),
        Ok((name, Err(error))) => format!("the task {name} has ended: {error:#}"),
        Err(error) => format!("a task failed: {error}"),
    }
}
