//! The self-beat: this replica's own `ServiceInstance`, and the annotation by which it measures
//! how far it has seen.
//!
//! Owns: that the object is there, and writing the values that the catalog asks for. Does not
//! own: their moments (`horizon` of `rollcall-core`).

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

/// At most one is asked for at a time.
pub const QUEUE: usize = 1;

/// Leaving is a courtesy: a replica that cannot say so expires.
pub const LEAVE_WITHIN: Duration = Duration::from_secs(2);

/// Writes self-beats.
pub struct SelfBeat {
    /// The own instance.
    pub own: InstanceKey,
    /// What it says of this replica.
    pub registration: Registration,
    /// Knows which installation this is.
    pub directory: Arc<Directory>,
    /// For the writes.
    pub writer: Writer,
    /// To say what came of them.
    pub facts: mpsc::Sender<Delivery>,
    /// What to write.
    pub wanted: mpsc::Receiver<fact::SelfBeat>,
}

/// What a replica says of itself: service `rollcall`, at `address`, with these ports.
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

/// A replica that does not come back is cleaned away like any client.
fn lease() -> Lease {
    Lease::default()
}

impl SelfBeat {
    /// Writes what is asked for, until nobody asks any more. Each write has its own deadline.
    pub async fn run(mut self) {
        let mut failing = false;
        while let Some(wanted) = self.wanted.recv().await {
            let written = self.write(&wanted).await;
            match &written {
                Err(failure) if !failing && failure.is_missing_namespace() => warn!(
                    %failure, namespace = %self.own.namespace,
                    "there is no place for the self-beat, so no lease is judged: create the namespace, or name \
                     another with --watch-namespace (else --own-namespace)"
                ),
                Err(failure) if !failing => {
                    warn!(%failure, "cannot write the self-beat; leases are not judged meanwhile");
                }
                Ok(_) if failing => info!("self-beats are written again"),
                _ => {}
            }
            failing = written.is_err();
            let answer = written.map_err(|failure| failure.to_string().into());
            if self.tell(Fact::SelfBeatWritten { answer }).await.is_err() {
                return;
            }
        }
    }

    /// Answers the resourceVersion of the own instance with the value.
    async fn write(&self, wanted: &fact::SelfBeat) -> Result<u64, Failure> {
        let fact::SelfBeat { value, reads } = wanted;
        if *reads {
            let version = match self.writer.get_own(&self.own).await {
                Ok(own) => Some(own.resource_version),
                Err(Failure::NotFound(_)) => None,
                Err(failure) => return Err(failure),
            };
            // An error means that the engine has ended, and so does the process.
            let _ = self.tell(Fact::OwnRead { version }).await;
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

    /// Waits without a deadline: the engine takes facts in for as long as the process lives.
    async fn tell(&self, fact: Fact) -> Result<(), SendError<Delivery>> {
        self.facts.send(Delivery::new(fact, clock::reading())).await
    }
}

/// Takes the own instance away.
pub async fn leave(writer: &Writer, own: &InstanceKey) {
    let left = async {
        let record = writer.get(own).await?;
        writer.delete(own, Precondition { uid: &record.uid, version: None }).await
    };
    match timeout(LEAVE_WITHIN, left).await {
        Ok(Ok(_)) => info!("left"),
        Ok(Err(failure)) => warn!(%failure, "could not take the own instance away; it will expire"),
        Err(_) => warn!("no time to take the own instance away; it will expire"),
    }
}
