//! Instances as they are watched. An object that cannot be read is logged, told and skipped. Does not own:
//! the watch itself (`watch`), and reading an object (`convert`).

use std::sync::Arc;

use kube::{Resource as _, core::Request};
use rollcall_api::ServiceInstance;
use rollcall_core::fact::{Fact, Version};
use rollcall_model::instance::Instance;
use tracing::warn;

use crate::kubernetes::{
    convert::{Converter, Lean},
    watch::Kind,
};
use crate::telemetry::metrics::WatchMetrics;

/// The instances of one namespace, or of all.
pub struct Instances {
    /// One namespace, or all.
    pub scope: Option<String>,
    /// Makes records.
    pub converter: Arc<Converter>,
    /// Figures.
    pub metrics: WatchMetrics,
}

impl Kind for Instances {
    type Object = Lean;
    type Record = Arc<Instance>;

    const NAME: &'static str = "instance";

    fn request(&self) -> Request {
        Request::new(ServiceInstance::url_path(&(), self.scope.as_deref()))
    }

    fn version(object: &Lean) -> u64 {
        object.resource_version()
    }

    fn read(&self, object: Lean) -> Result<Arc<Instance>, Option<Fact>> {
        self.converter.convert(&object).map_err(|poison| {
            self.metrics.poison();
            warn!(%poison, "cannot use an object");
            let resource_version = object.resource_version();
            let on = Version { key: poison.key, uid: object.uid().into(), resource_version };
            Some(Fact::Unreadable { on, reason: poison.reason.into() })
        })
    }

    fn listed(&self, instances: Vec<Arc<Instance>>, index: u64) -> Fact {
        Fact::Listed { instances, index }
    }

    fn upserted(&self, instance: Arc<Instance>) -> Option<Fact> {
        Some(Fact::Upserted(instance))
    }

    fn removed(&self, object: Lean) -> Option<Fact> {
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
