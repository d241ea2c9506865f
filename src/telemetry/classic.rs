//! The classic text format of Prometheus (0.0.4), made of an OpenMetrics text.
//!
//! Owns: where the two differ, which is in the comments only. Samples go over as they are: what
//! this process writes has no timestamps, no exemplars and no `_created`, which would differ too.
//! Does not own: the OpenMetrics text (prometheus-client writes it).

/// The same families and samples in the classic format.
pub(super) fn from_open_metrics(text: &str) -> String {
    // `_total` is written once or twice a family more, and the units are left out.
    let mut classic = String::with_capacity(text.len());
    // Stands before the type, and the name beside it depends on that.
    let mut help = "";
    for line in text.lines() {
        let Some(comment) = line.strip_prefix("# ") else {
            classic.extend([line, "\n"]);
            continue;
        };
        match comment.split_once(' ') {
            Some(("HELP", rest)) => help = rest.split_once(' ').map_or("", |(_, help)| help),
            Some(("TYPE", rest)) => {
                let (name, kind) = rest.split_once(' ').unwrap_or((rest, "unknown"));
                let (suffix, kind) = called(kind);
                classic.extend(["# HELP ", name, suffix, " ", std::mem::take(&mut help), "\n"]);
                classic.extend(["# TYPE ", name, suffix, " ", kind, "\n"]);
            }
            // UNIT and EOF mean nothing there.
            _ => {}
        }
    }
    classic
}

/// What the samples of a type have behind the family's name, which there is part of it; and what the
/// type is called there.
fn called(kind: &str) -> (&'static str, &str) {
    match kind {
        "counter" => ("_total", "counter"),
        "info" => ("_info", "gauge"),
        "stateset" => ("", "gauge"),
        "unknown" => ("", "untyped"),
        other => ("", other),
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::{
        encoding::text::encode,
        metrics::{
            counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info,
        },
        registry::{Registry, Unit},
    };
    use proptest::prelude::*;

    use super::*;

    type Labels = Vec<(String, String)>;

    fn open_metrics(registry: &Registry) -> String {
        let mut text = String::new();
        encode(&mut text, registry).unwrap();
        text
    }

    fn samples(text: &str) -> Vec<&str> {
        text.lines().filter(|line| !line.starts_with('#')).collect()
    }

    #[test]
    fn counters_bear_their_full_name_and_units_and_the_end_are_left_out() {
        let mut registry = Registry::with_prefix("rollcall");
        registry.register("heartbeats", "Heartbeats", Counter::<u64>::default());
        registry.register_with_unit("age", "Age", Unit::Seconds, Gauge::<i64>::default());
        registry.register_with_unit("took", "Took", Unit::Seconds, Histogram::new([0.5]));
        registry.register("build", "Which", Info::new([("version", "1")]));
        assert_eq!(
            from_open_metrics(&open_metrics(&registry)),
            "# HELP rollcall_heartbeats_total Heartbeats.\n\
             # TYPE rollcall_heartbeats_total counter\n\
             rollcall_heartbeats_total 0\n\
             # HELP rollcall_age_seconds Age.\n\
             # TYPE rollcall_age_seconds gauge\n\
             rollcall_age_seconds 0\n\
             # HELP rollcall_took_seconds Took.\n\
             # TYPE rollcall_took_seconds histogram\n\
             rollcall_took_seconds_sum 0.0\n\
             rollcall_took_seconds_count 0\n\
             rollcall_took_seconds_bucket{le=\"0.5\"} 0\n\
             rollcall_took_seconds_bucket{le=\"+Inf\"} 0\n\
             # HELP rollcall_build_info Which.\n\
             # TYPE rollcall_build_info gauge\n\
             rollcall_build_info{version=\"1\"} 1\n"
        );
        let unknown = "# HELP a x\n# TYPE a unknown\na 1\n# EOF\n";
        assert_eq!(from_open_metrics(unknown), "# HELP a x\n# TYPE a untyped\na 1\n");
    }

    fn family() -> impl Strategy<Value = (u8, String, Vec<(String, u32)>)> {
        let series = prop::collection::vec((any::<String>(), any::<u32>()), 1..4);
        (0..3_u8, "[ -~]{0,20}", series)
    }

    proptest! {
        #[test]
        fn both_formats_carry_the_same_samples(
            families in prop::collection::vec(family(), 0..6),
        ) {
            let mut registry = Registry::with_prefix("p");
            for (at, (kind, help, series)) in families.iter().enumerate() {
                let label = |value: &String| vec![("label".to_owned(), value.clone())];
                let name = format!("family_{at}");
                match kind {
                    0 => {
                        let family = Family::<Labels, Counter>::default();
                        for (value, count) in series {
                            family.get_or_create(&label(value)).inc_by(u64::from(*count));
                        }
                        registry.register(name, help, family);
                    }
                    1 => {
                        let family = Family::<Labels, Gauge>::default();
                        for (value, count) in series {
                            family.get_or_create(&label(value)).set(i64::from(*count));
                        }
                        registry.register_with_unit(name, help, Unit::Bytes, family);
                    }
                    _ => {
                        let new = || Histogram::new([1.0, 1e6]);
                        let family = Family::<Labels, Histogram, _>::new_with_constructor(new);
                        for (value, count) in series {
                            family.get_or_create(&label(value)).observe(f64::from(*count));
                        }
                        registry.register(name, help, family);
                    }
                }
            }
            let open = open_metrics(&registry);
            let classic = from_open_metrics(&open);
            prop_assert_eq!(samples(&open), samples(&classic));
            let comments = classic.lines().filter(|line| line.starts_with('#'));
            prop_assert_eq!(comments.count(), 2 * families.len());
        }
    }
}
