//! The tables of the results.

use std::collections::BTreeSet;

use crate::{
    Run,
    figures::{Table, number},
    meter::Rates,
    stages::{RunResult, WITH_HEARTBEATS, WITH_PATCHES},
};

/// Prints everything in the format of docs/benchmarks.md.
pub fn print(results: &[RunResult]) {
    print_promises(results);
    print_writes(results);
    results.iter().for_each(print_costs);
    for result in results {
        print_lifecycle(result);
        print_caveats(result);
    }
}

fn title(run: Run) -> String {
    let thousands = if run.instances >= 1000 {
        format!("{},{:03}", run.instances / 1000, run.instances % 1000)
    } else {
        run.instances.to_string()
    };
    format!("{thousands} × {} s", run.lease)
}

fn head(first: &str, second: &str, results: &[RunResult]) -> Table {
    let names = results.iter().map(|result| title(result.run));
    Table::new([first.to_owned(), second.to_owned()].into_iter().chain(names).collect())
}

/// The times and the correctness of responses.
fn print_promises(results: &[RunResult]) {
    let mut table = head("p50 / p99 / max", "budget", results);
    let mut row = |name: &str, budget: &str, cell: &dyn Fn(&RunResult) -> String| {
        table.row(name, std::iter::once(budget.to_owned()).chain(results.iter().map(cell)));
    };
    row("end of lease → missing in every answer of all three", "2 s", &|it| {
        it.crash.late.summary()
    });
    row("missing before its lease ended", "0", &|it| {
        let early = it.crash.early;
        format!("{early} of {}", it.crash.late.len())
    });
    row("registration at A → answered by DNS of B", "p99 30 ms", &|it| {
        it.registrations.named.summary()
    });
    row("bare create → watch event", "", &|it| it.registrations.watched.summary());
    row("ratio of the two, p50 and p99", "", &|it| {
        let times = &it.registrations;
        let ratio = |share| times.named.quantile(share) / times.watched.quantile(share);
        format!("{}, {}", number(ratio(0.5)), number(ratio(0.99)))
    });
    row("A answered the registration → answered by DNS of B", "", &|it| {
        it.registrations.after.summary()
    });
    row("heartbeat answered by A → reported by B", "", &|it| it.propagation.summary());
    row("leader killed → another replica leads", "", &|it| {
        format!("{} s", number(it.failover.leaderless.quantile(1.0) / 1e3))
    });
    row("longest time without a correct DNS answer of the others", "", &|it| {
        let it = &it.failover;
        format!(
            "{:.0} ms; of {} {} wrong, {} unanswered",
            it.longest_gap.as_secs_f64() * 1e3,
            it.queries,
            it.wrong,
            it.unanswered
        )
    });
    table.print();
}

/// The API writes of each replica while all instances send heartbeats.
fn print_writes(results: &[RunResult]) {
    let mut table = head(
        "API writes a second of each replica, the leader first, with all heartbeats",
        "budget",
        results,
    );
    let beating = |result| phase(result, WITH_HEARTBEATS).unwrap();
    let all: BTreeSet<&String> = results
        .iter()
        .flat_map(|result| beating(result).writes.iter().flat_map(|calls| calls.keys()))
        .collect();
    for call in all {
        let cell = |result| {
            let by_replica = beating(result).writes.iter();
            list(by_replica.map(|calls| calls.get(call).copied().unwrap_or_default()))
        };
        table.row(call, std::iter::once(String::new()).chain(results.iter().map(cell)));
    }
    let sums = |result| list(beating(result).writes_by_replica().into_iter());
    let budget = "2 each".to_owned();
    table.row("all", std::iter::once(budget).chain(results.iter().map(sums)));
    for resource in ["heartbeatledgers", "serviceinstances", "leases"] {
        let cell = |result| {
            number(beating(result).bodies.get(resource).copied().unwrap_or_default() / 1e3)
        };
        let name = format!("request bodies of all for {resource}, kB/s");
        table.row(&name, std::iter::once(String::new()).chain(results.iter().map(cell)));
    }
    table.print();
}

fn list(values: impl Iterator<Item = f64>) -> String {
    values.map(number).collect::<Vec<_>>().join(", ")
}

fn phase<'a>(result: &'a RunResult, name: &str) -> Option<&'a Rates> {
    result.phases.iter().find(|(it, _)| *it == name).map(|(_, rates)| rates)
}

/// The costs of each phase; and the cost of a heartbeat as a patch, divided by the cost of a heartbeat over HTTP.
fn print_costs(result: &RunResult) {
    let head = [
        &title(result.run),
        "heartbeats/s",
        "API writes/s of each rollcall, the leader first",
        "stored changes/s",
        "into etcd, kB/s",
        "watch events, kB/s",
        "CPU of each rollcall, %",
        "kube-apiserver, %",
        "etcd, %",
        "this benchmark, %",
    ];
    let mut table = Table::new(head.map(|it: &str| it.to_owned()).to_vec());
    for (name, rates) in &result.phases {
        let writes = list(rates.writes_by_replica().into_iter());
        let mut cells = vec![number(rates.heartbeats), writes, number(rates.puts)];
        cells.extend([rates.into_etcd, rates.watched].map(|it| number(it / 1e3)));
        cells.push(list(rates.replicas.iter().map(|cores| cores * 100.0)));
        cells.extend([rates.apiserver, rates.etcd, rates.load].map(|it| number(it * 100.0)));
        table.row(name, cells);
    }
    if let (Some(ours), Some(naive)) = (phase(result, WITH_HEARTBEATS), phase(result, WITH_PATCHES))
    {
        let ratios = naive.totals().into_iter().zip(ours.totals());
        let ratios = ratios.map(|(n, o)| (n - o) / result.pace.attained / (o / ours.heartbeats));
        let cells = ratios.map(|ratio| format!("{} ×", number(ratio)));
        let none = || std::iter::once(String::new());
        table.row("naive ÷ ours", none().chain(none()).chain(cells).chain(none()));
    }
    table.print();
    let pace = result.pace;
    println!(
        "\nThe API server answered at most {:.0} patches a second. {} instances sent {:.0} heartbeats a second by \
         patches, of which {:.0} were answered.",
        pace.max, pace.instances, pace.rate, pace.attained
    );
}

fn print_lifecycle(result: &RunResult) {
    let Some(lifecycle) = &result.lifecycle else { return };
    let head = vec!["API writes of one lifecycle".to_owned(), "each".to_owned()];
    let mut table = Table::new(head);
    for (call, count) in lifecycle {
        table.row(call, [number(*count)]);
    }
    let sum = |events: bool| {
        let of_kind = lifecycle.iter().filter(|(call, _)| call.ends_with("events") == events);
        number(of_kind.map(|(_, count)| count).sum())
    };
    table.row("all (budget: 4)", [format!("{} and {} Events", sum(false), sum(true))]);
    table.print();
}

/// Facts that would invalidate the results.
fn print_caveats(result: &RunResult) {
    let (title, crash) = (title(result.run), &result.crash);
    println!();
    for (when, counts) in ["before the kill", "after the kill"].iter().zip(result.counts) {
        println!(
            "{title}, heartbeats in batches {when}: {} renewed, {} only recorded, {} lost; at most {:.0} ms late",
            counts.renewed,
            counts.recorded,
            counts.lost,
            counts.late.as_secs_f64() * 1e3,
        );
    }
    println!(
        "{title}: {} leases ended although all instances sent heartbeats; while the victims expired, a live instance was \
         missing in {} answers, and {} victims were still discoverable at the end",
        result.expired, crash.missing_live, crash.left
    );
}
