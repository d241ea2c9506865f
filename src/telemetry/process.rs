//! The usual metrics of a process: CPU time, memory, open files and start time.
//!
//! Owns: reading `/proc/self`. Without it these metrics are absent. Names and meanings are those of the Prometheus
//! client libraries.

use std::fs;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};
use rustix::{
    param::{clock_ticks_per_second, page_size},
    process::{Resource, getrlimit},
};

/// Reads `/proc/self` at every scrape.
#[derive(Debug)]
pub(super) struct ProcessCollector;

/// Values from `/proc/self`.
#[derive(Debug, PartialEq)]
struct ProcessStats {
    cpu_seconds: f64,
    start_seconds: f64,
    virtual_bytes: f64,
    resident_bytes: f64,
}

impl ProcessStats {
    fn read() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let system = fs::read_to_string("/proc/stat").ok()?;
        let ticks = clock_ticks_per_second() as f64;
        Self::parse(&stat, &system, ticks, page_size() as f64)
    }

    /// Parses `/proc/self/stat` and `/proc/stat` (proc(5)).
    fn parse(stat: &str, system: &str, ticks: f64, page: f64) -> Option<Self> {
        let boot = system.lines().find_map(|line| line.strip_prefix("btime "))?;
        let boot: f64 = boot.trim().parse().ok()?;
        // The program's name, in parentheses, can contain anything; the field after it is the third.
        let (_, fields) = stat.rsplit_once(") ")?;
        let fields: Vec<&str> = fields.split(' ').collect();
        let field = |number: usize| fields.get(number - 3)?.trim().parse::<f64>().ok();
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) / ticks,
            start_seconds: boot + field(22)? / ticks,
            virtual_bytes: field(23)?,
            resident_bytes: field(24)? * page,
        })
    }
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut encode = |name: &str, help: &str, unit: Option<&Unit>, value: &dyn EncodeMetric| {
            value.encode(encoder.encode_descriptor(name, help, unit, value.metric_type())?)
        };
        if let Some(stats) = ProcessStats::read() {
            let ProcessStats { cpu_seconds, start_seconds, virtual_bytes, resident_bytes } = stats;
            let (seconds, bytes) = (Some(&Unit::Seconds), Some(&Unit::Bytes));
            let cpu = ConstCounter::new(cpu_seconds);
            encode(
                "process_cpu",
                "CPU time that the process has used, user and system.",
                seconds,
                &cpu,
            )?;
            let gauges = [
                (
                    "process_start_time",
                    "Start time of the process, in Unix time.",
                    seconds,
                    start_seconds,
                ),
                ("process_virtual_memory", "Virtual memory of the process.", bytes, virtual_bytes),
                (
                    "process_resident_memory",
                    "Resident memory of the process.",
                    bytes,
                    resident_bytes,
                ),
            ];
            for (name, help, unit, value) in gauges {
                encode(name, help, unit, &ConstGauge::new(value))?;
            }
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            // Reading the directory opens one of them.
            let open = open.count().saturating_sub(1);
            let help = "Open file descriptors.";
            encode("process_open_fds", help, None, &ConstGauge::new(open as f64))?;
        }
        if let Some(limit) = getrlimit(Resource::Nofile).current {
            let help = "Limit of open file descriptors.";
            encode("process_max_fds", help, None, &ConstGauge::new(limit as f64))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_after_any_program_name() {
        let stat = "7 (a) b) S 1 1 1 0 -1 4194304 9 0 0 0 150 50 0 0 20 0 3 0 1000 4096000 25 0\n";
        let stats =
            ProcessStats::parse(stat, "cpu 1 2\nbtime 1700000000\n", 100.0, 4096.0).unwrap();
        assert_eq!(
            stats,
            ProcessStats {
                cpu_seconds: 2.0,
                start_seconds: 1_700_000_010.0,
                virtual_bytes: 4_096_000.0,
                resident_bytes: 102_400.0,
            }
        );
        assert_eq!(ProcessStats::parse("7 (a) S 1", "btime 1\n", 100.0, 4096.0), None);
    }

    #[test]
    fn stats_of_this_process_are_read() {
        let stats = ProcessStats::read().unwrap();
        assert!(stats.resident_bytes > 1e5 && stats.start_seconds > 1e9, "{stats:?}");
    }
}
