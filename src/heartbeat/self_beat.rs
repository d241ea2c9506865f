//! The self-beat: a write to the heartbeat annotation of this replica's own `ServiceInstance`. When the watch delivers
//! it, the replica knows every heartbeat that was stored before it.
//!
//! Owns: creating the object, and writing the values that the state machine asks for. Does not
//! own: when to write (`horizon` of `rollcall-core`).

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use rollcall_core::{
    directory::Directory,
    fact::{self, Delivery, Fact},
};
use rollcall_model::defaults;
use rollcall_model::{
    instance::{Address, InstanceKey, Port, Protocol},
    lease::Lease,
    registration::Registration,
};
use tokio::{
    sync::mpsc::{self, error::SendError},
    time::timeout,
};
use tracing::{info, warn};

use crate::clock;
use crate::kubernetes::{body::Precondition, failure::Failure, writer::Writer};

/// The state machine asks for one self-beat at a time.
pub const QUEUE: usize = 1;

/// The deadline for deregistering this replica. This is best effort: if it fails, the replica's instance expires.
pub const LEAVE_WITHIN: Duration = Duration::from_secs(2);

/// Writes self-beats.
pub struct SelfBeatWriter {
    /// This replica's instance.
    pub own: InstanceKey,
    /// The registration of this replica.
    pub registration: Registration,
    /// Knows the installation of this replica.
    pub directory: Arc<Directory>,
    /// Writes to Kubernetes.
    pub writer: Writer,
    /// Receives the results.
    pub facts: mpsc::Sender<Delivery>,
    /// The self-beats to write.
    pub wanted: mpsc::Receiver<fact::SelfBeat>,
}

/// The registration of a replica: service `rollcall`, at `address`, with these ports.
#[must_use]
pub fn registration(address: IpAddr, ports: &[(&str, u16, Protocol)]) -> Registration {
    let port = |(name, port, protocol): &(&str, u16, Protocol)| Port {
        name: (*name).into(),
        port: *port,
        protocol: *protocol,
        app_protocol: None,
    };
    Registration {
        service: "rollcall".to_owned(),
        address: Address::Ips(Arc::new([address])),
        ports: ports.iter().map(port).collect(),
        version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        tags: Vec::new(),
        zone: None,
        weight: defaults::WEIGHT,
        priority: defaults::PRIORITY,
        attributes: BTreeMap::new(),
        labels: BTreeMap::new(),
        health: None,
        pod: None,
        lease: Some(lease()),
    }
}

/// The lease of a replica: when a replica does not return, its instance is evicted like any other.
fn lease() -> Lease {
    Lease::default()
}

impl SelfBeatWriter {
    /// Writes self-beats until the engine ends. Each write has its own deadline.
    pub async fn run(mut self) {
        let mut failing = false;
        while let Some(wanted) = self.wanted.recv().await {
            let written = self.write(&wanted).await;
            match &written {
                Err(failure) if !failing && failure.is_missing_namespace() => warn!(
                    %failure, namespace = %self.own.namespace,
                    "the namespace for the self-beat does not exist, so no lease is judged: create the namespace, or \
                     choose another with --watch-namespace (if that is not set, with --own-namespace)"
                ),
                Err(failure) if !failing => {
                    warn!(
                        %failure,
                        "cannot write this replica's own heartbeat (self-beat); until it can, no lease is judged"
                    );
                }
                Ok(_) if failing => info!("self-beats can be written again"),
                _ => {}
            }
            failing = written.is_err();
            let answer = written.map_err(|failure| failure.to_string().into());
            if self.report(Fact::SelfBeatWritten { answer }).await.is_err() {
                return;
            }
        }
    }

    /// Returns the resourceVersion of this replica's instance with the new value.
    async fn write(&self, wanted: &fact::SelfBeat) -> Result<u64, Failure> {
        let fact::SelfBeat { value, reads } = wanted;
        if *reads {
            let version = match self.writer.get_own(&self.own).await {
                Ok(own) => Some(own.resource_version),
                Err(Failure::NotFound(_)) => None,
                Err(failure) => return Err(failure),
            };
            // An error means that the engine has ended; then the process ends, too.
            let _ = self.report(Fact::OwnRead { version }).await;
        }
        let identity = self.directory.installation();
        match self.writer.self_beat(&self.own, value, identity.current()).await {
            Err(Failure::NotFound(_)) => {
                let registered = self
                    .writer
                    .register(&self.own, None, None, &self.registration, lease(), value)
                    .await;
                registered.map(|own| own.instance.resource_version)
            }
            other => other,
        }
    }

    /// Waits without a deadline: the engine receives facts as long as the process runs.
    async fn report(&self, fact: Fact) -> Result<(), SendError<Delivery>> {
        self.facts.send(Delivery::new(fact, clock::reading())).await
    }
}

/// Deletes this replica's own instance.
pub async fn leave(writer: &Writer, own: &InstanceKey) {
    let left = async {
        let record = writer.get(own).await?;
        writer.delete(own, Precondition { uid: &record.uid, version: None }).await
    };
    match timeout(LEAVE_WITHIN, left).await {
        Ok(Ok(_)) => info!("deregistered this replica"),
        Ok(Err(failure)) => {
            warn!(%failure, "could not deregister this replica; its instance will expire");
        }
        Err(_) => warn!("could not deregister this replica in time; its instance will expire"),
    }
}
