//! A server for unit tests: complete except for sockets, with a registry that the test fills and a clock that the test
//! advances.

use std::{
    cell::Cell,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use prometheus_client::{encoding::text, registry::Registry};
use rollcall_core::{
    catalog::{Catalog, Settings},
    directory::Directory,
    fact::Fact,
};
use rollcall_model::{
    instance::{Facts, Instance, InstanceKey},
    lease::{Moment, Now, Wall},
};

use crate::auth;
use crate::config::Rates;
use crate::heartbeat;
use crate::http::{
    app::{AppParts, AppSettings, AppState},
    encoded_views::Views,
    metrics::HttpMetrics,
    subscribers::Subscribers,
    table,
};
use crate::telemetry::{
    heartbeats::HeartbeatMetrics, metrics::BreakerMetrics, problems::ProblemTracker,
};

/// The address of the client in all tests.
pub(super) const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

thread_local! {
    /// The milliseconds of both clocks.
    static NOW: Cell<u64> = const { Cell::new(10_000) };
}

/// The clock of all servers in a test. A test runs on one thread.
pub(super) fn clock() -> Now {
    let now = NOW.get();
    Now { moment: Moment(now), wall: Wall(i64::try_from(now).unwrap()) }
}

/// Advances the clock.
pub(super) fn advance(millis: u64) {
    NOW.set(NOW.get() + millis);
}

/// The options of a test server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub(super) tokens: bool,
    pub(super) read_auth: bool,
    pub(super) rates: Rates,
    pub(super) synced: bool,
}

impl Default for Options {
    fn default() -> Self {
        let rates = Rates { caller: 0, namespace: 0 };
        Self { tokens: false, read_auth: false, rates, synced: true }
    }
}

/// A server and its registry.
pub(super) struct World {
    pub(super) app: Arc<AppState>,
    catalog: Arc<Mutex<Catalog>>,
    views: Arc<Views>,
    metrics: Registry,
    version: AtomicU64,
}

impl World {
    /// Call it within an async runtime, on which the engine then runs.
    pub(super) fn new(Options { tokens, read_auth, rates, synced }: Options) -> Self {
        let mut metrics = Registry::default();
        let directory = Arc::<Directory>::default();
        let own = InstanceKey::new("rollcall-system", "rollcall-0");
        let settings = Settings { own, boot: "b".into(), zone: "z.".into(), ledger: None };
        let catalog = Arc::new(Mutex::new(Catalog::new(settings, directory.clone())));
        let (intake, mut facts) = heartbeat::testing::intake(directory.clone(), clock);
        let engine = catalog.clone();
        // The task ends when the intake is dropped.
        tokio::spawn(async move {
            while let Some(delivery) = facts.recv().await {
                apply(&engine, delivery.fact);
                delivery.applied.into_iter().for_each(|applied| applied());
            }
        });
        let views = Arc::new(Views::new(directory));
        let parts = AppParts {
            intake,
            authorizer: tokens.then(|| auth::testing::authorizer(&mut metrics)),
            problems: ProblemTracker::new(|_, _, _| String::new()),
            breakers: BreakerMetrics::new(&mut metrics),
            views: views.clone(),
            subscribers: Arc::new(Subscribers::new(&mut metrics)),
            traces: None,
        };
        let beats = HeartbeatMetrics::new(&mut metrics);
        let http = HttpMetrics::new(&mut metrics, beats);
        let (identity, zone) = ("rollcall-0".to_owned(), "z.".to_owned());
        let (document, calls) = (table::document, table::calls);
        let settings = AppSettings { read_auth, rates, identity, zone, document, calls };
        let app = Arc::new(AppState::new(parts, settings, http).unwrap());
        let world = Self { app, catalog, views, metrics, version: AtomicU64::new(100) };
        if synced {
            world.apply(Fact::Listed { instances: Vec::new(), index: 100 });
        }
        world
    }

    /// Creates or changes an instance.
    pub(super) fn put(&self, name: &str, change: impl FnOnce(&mut Facts)) {
        let resource_version = self.version.fetch_add(1, Ordering::Relaxed) + 1;
        let instance = Instance { resource_version, ..Instance::sample("shop", name) };
        let instance = instance.with(|facts| facts.uid = format!("uid-{name}").into()).with(change);
        self.apply(Fact::Upserted(Arc::new(instance)));
    }

    pub(super) fn delete(&self, name: &str) {
        let index = self.version.fetch_add(1, Ordering::Relaxed) + 1;
        let (key, uid) = (InstanceKey::new("shop", name), format!("uid-{name}").into());
        self.apply(Fact::Removed { key, uid, index });
    }

    fn apply(&self, fact: Fact) {
        self.views.update(&apply(&self.catalog, fact));
    }

    /// All metric series except those that measure a time.
    pub(super) fn counts(&self) -> Vec<String> {
        let mut all = String::new();
        text::encode(&mut all, &self.metrics).unwrap();
        let is_count = |line: &&str| !line.contains("_bucket{") && !line.contains("_sum");
        let mut counts: Vec<String> = all.lines().filter(is_count).map(str::to_owned).collect();
        counts.sort();
        counts
    }
}

fn apply(catalog: &Mutex<Catalog>, fact: Fact) -> Vec<rollcall_model::instance::ServiceKey> {
    let mut catalog = catalog.lock();
    catalog.apply(fact, clock());
    let _ = catalog.settle(clock(), 0);
    catalog.take_revised()
}
