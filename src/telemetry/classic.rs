//! Conversion of an OpenMetrics text to the classic text format of Prometheus (0.0.4).
//!
//! Owns: the differences between the two formats. For the metrics of this process they are only in the comment lines.
//! Samples are copied unchanged, because this process writes no timestamps, exemplars or `_created` samples, which
//! would differ as well. Does not own: the OpenMetrics text (prometheus-client writes it).

/// Converts an OpenMetrics text to the classic format.
pub(super) fn from_open_metrics(text: &str) -> String {
    // About the same length: the comments of a counter gain `_total`, and UNIT lines are left out.
    let mut classic = String::with_capacity(text.len());
    // HELP comes before TYPE, but the name in it depends on the type.
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
                let (suffix, kind) = classic_type(kind);
                classic.extend(["# HELP ", name, suffix, " ", std::mem::take(&mut help), "\n"]);
                classic.extend(["# TYPE ", name, suffix, " ", kind, "\n"]);
            }
            // The classic format has no UNIT and no EOF.
            _ => {}
        }
    }
    classic
}

/// The suffix of the samples of this OpenMetrics type, which the classic format adds to the family name, and the name
/// of the type in the classic format.
fn classic_type(kind: &str) -> (&'static str, &str) {
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
    fn counters_have_their_full_name_and_units_and_eof_are_left_out() {
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
        fn both_formats_have_the_same_samples(
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
