//! Counts of instances by phase, as JSON.

use std::{borrow::Cow, sync::Arc};

use rollcall_model::{instance::Phase, view::View};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

/// The number of instances in each phase, in the order of [`Phase::ALL`].
#[derive(Default)]
pub(super) struct Phases([usize; Phase::ALL.len()]);

impl Serialize for Phases {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(Phase::ALL.iter().map(|phase| phase.as_str()).zip(self.0))
    }
}

impl JsonSchema for Phases {
    fn schema_name() -> Cow<'static, str> {
        "Phases".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names = Phase::ALL.iter().map(|phase| phase.as_str());
        let count = |name: &str| {
            let description = format!("The number of instances in {name}.");
            serde_json::json!({"type": "integer", "format": "int64", "minimum": 0, "description": description})
        };
        let properties: serde_json::Map<_, _> =
            names.clone().map(|name| (name.to_owned(), count(name))).collect();
        json_schema!({
            "type": "object",
            "description": "The number of instances in each phase.",
            "properties": properties,
            "required": names.collect::<Vec<_>>(),
        })
    }
}

impl Phases {
    pub(super) fn of(view: &View) -> Self {
        let mut phases = Self::default();
        phases.add(view);
        phases
    }

    pub(super) fn of_all(views: &[Arc<View>]) -> Self {
        let mut phases = Self::default();
        views.iter().for_each(|view| phases.add(view));
        phases
    }

    fn add(&mut self, view: &View) {
        for (count, phase) in self.0.iter_mut().zip(Phase::ALL) {
            *count += view.count(*phase);
        }
    }
}
