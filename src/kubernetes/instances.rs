//! The watch of instances: which objects, and which facts they become. An object that cannot be read is logged, reported
//! to the engine and skipped.
//!
//! Does not own: the watch itself (`watch`), decoding an object (`convert`).

use std::sync::Arc;

use kube::{Resource as _, core::Request};
use rollcall_api::ServiceInstance;
use rollcall_core::fact::{Fact, Version};
use rollcall_model::instance::Instance;
use tracing::warn;

use crate::kubernetes::{
    convert::{Converter, SlimInstance, UnreadableObject},
    watch::WatchedKind,
};
use crate::telemetry::metrics::WatchMetrics;

/// The instances of one namespace, or of all.
pub struct WatchedInstances {
    /// One namespace, or all.
    pub scope: Option<String>,
    /// Turns objects into records.
    pub converter: Arc<Converter>,
    /// Counts unreadable objects.
    pub metrics: WatchMetrics,
}

impl WatchedKind for WatchedInstances {
    type Object = SlimInstance;
    type Record = Arc<Instance>;

    const NAME: &'static str = "instance";

    fn request(&self) -> Request {
        Request::new(ServiceInstance::url_path(&(), self.scope.as_deref()))
    }

    fn version(object: &SlimInstance) -> u64 {
        object.resource_version()
    }

    fn decode(&self, object: SlimInstance) -> Result<Arc<Instance>, Option<Fact>> {
        self.converter.convert(&object).map_err(|UnreadableObject { key, reason }| {
            self.metrics.unreadable();
            warn!(%key, reason, "cannot read an instance; it is not discoverable");
            let resource_version = object.resource_version();
            let on = Version { key, uid: object.uid().into(), resource_version };
            Some(Fact::Unreadable { on, reason: reason.into() })
        })
    }

    fn listed(&self, instances: Vec<Arc<Instance>>, index: u64) -> Fact {
        Fact::Listed { instances, index }
    }

    fn upserted(&self, instance: Arc<Instance>) -> Option<Fact> {
        Some(Fact::Upserted(instance))
    }

    fn removed(&self, object: SlimInstance) -> Option<Fact> {
        let index = object.resource_version();
        Some(Fact::Removed { key: object.key(), uid: object.uid().into(), index })
    }

    fn progress(&self, index: u64) -> Option<Fact> {
        Some(Fact::Progress { index })
    }

    fn interrupted(&self, reason: String) -> Option<Fact> {
        Some(Fact::Interrupted { reason: reason.into() })
    }
}
