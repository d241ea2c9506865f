//! How many instances are in each phase, as JSON.

use std::{borrow::Cow, sync::Arc};

use rollcall_model::{instance::Phase, view::View};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

/// How many are in each phase, in the order of [`Phase::ALL`].
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
        let words = Phase::ALL.iter().map(|phase| phase.as_str());
        let count = |word: &str| {
            let says = format!("How many are {word}.");
            serde_json::json!({"type": "integer", "format": "int64", "minimum": 0, "description": says})
        };
        let properties: serde_json::Map<_, _> =
            words.clone().map(|word| (word.to_owned(), count(word))).collect();
        json_schema!({
            "type": "object",
            "description": "How many are in each phase.",
            "properties": properties,
            "required": words.collect::<Vec<_>>(),
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
