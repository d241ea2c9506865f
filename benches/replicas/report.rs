//! The tables.

use std::collections::BTreeSet;

use crate::{
    Run,
    figures::{Table, number},
    meter::Rates,
    stages::{BEATING, NAIVE, Outcome},
};

/// Prints everything, in the form of docs/benchmarks.md.
pub fn print(outcomes: &[Outcome]) {
    promises(outcomes);
    writes(outcomes);
    outcomes.iter().for_each(costs);
    for outcome in outcomes {
        lives(outcome);
        caveats(outcome);
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

fn head(first: &str, second: &str, outcomes: &[Outcome]) -> Table {
    let names = outcomes.iter().map(|outcome| title(outcome.run));
    Table::new([first.to_owned(), second.to_owned()].into_iter().chain(names).collect())
}

/// How soon, and how right.
fn promises(outcomes: &[Outcome]) {
    let mut table = head("p50 / p99 / most", "budget", outcomes);
    let mut row = |name: &str, budget: &str, cell: &dyn Fn(&Outcome) -> String| {
        table.row(name, std::iter::once(budget.to_owned()).chain(outcomes.iter().map(cell)));
    };
    row("crash → out of every answer of all three, past the lease's end", "2 s", &|it| {
        it.gone.late.show()
    });
    row("left out before its lease ended", "0", &|it| {
        let early = it.gone.early;
        format!("{early} of {}", it.gone.late.len())
    });
    row("register at A → answered by DNS of B", "p99 30 ms", &|it| it.registered.named.show());
    row("bare create → watch event", "", &|it| it.registered.watched.show());
    row("ratio of the two, p50 and p99", "", &|it| {
        let ratio = |share| it.registered.named.at(share) / it.registered.watched.at(share);
        format!("{}, {}", number(ratio(0.5)), number(ratio(0.99)))
    });
    row("A answered the registration → answered by DNS of B", "", &|it| {
        it.registered.after.show()
    });
    row("beat answered by A → shown by B", "", &|it| it.told.show());
    row("leader killed → another one leads", "", &|it| {
        format!("{} s", number(it.failover.leaderless.at(1.0) / 1e3))
    });
    row("meanwhile longest without a right DNS answer of the others", "", &|it| {
        let it = &it.failover;
        format!(
            "{:.0} ms; of {} {} wrong, {} unanswered",
            it.blind.as_secs_f64() * 1e3,
            it.looks,
            it.wrong,
            it.unanswered
        )
    });
    table.print();
}

/// Who writes what, while all beat.
fn writes(outcomes: &[Outcome]) {
    let mut table = head(
        "API writes a second of each replica, the leader first, while all beat",
        "budget",
        outcomes,
    );
    let beating = |outcome| phase(outcome, BEATING).unwrap();
    let all: BTreeSet<&String> = outcomes
        .iter()
        .flat_map(|outcome| beating(outcome).writes.iter().flat_map(|calls| calls.keys()))
        .collect();
    for what in all {
        let cell = |outcome| {
            let each = beating(outcome).writes.iter();
            list(each.map(|calls| calls.get(what).copied().unwrap_or_default()))
        };
        table.row(what, std::iter::once(String::new()).chain(outcomes.iter().map(cell)));
    }
    let sums = |outcome| list(beating(outcome).writes_of_each().into_iter());
    let budget = "2 each".to_owned();
    table.row("all", std::iter::once(budget).chain(outcomes.iter().map(sums)));
    for resource in ["heartbeatledgers", "serviceinstances", "leases"] {
        let cell = |outcome| {
            number(beating(outcome).bodies.get(resource).copied().unwrap_or_default() / 1e3)
        };
        let name = format!("request bodies of all for {resource}, kB/s");
        table.row(&name, std::iter::once(String::new()).chain(outcomes.iter().map(cell)));
    }
    table.print();
}

fn list(values: impl Iterator<Item = f64>) -> String {
    values.map(number).collect::<Vec<_>>().join(", ")
}

fn phase<'a>(outcome: &'a Outcome, name: &str) -> Option<&'a Rates> {
    outcome.phases.iter().find(|(it, _)| *it == name).map(|(_, rates)| rates)
}

/// What each phase costs; and what a patch adds, beside all that is spent a beat while all beat over HTTP.
fn costs(outcome: &Outcome) {
    let head = [
        &title(outcome.run),
        "beats/s",
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
    for (name, rates) in &outcome.phases {
        let writes = list(rates.writes_of_each().into_iter());
        let mut cells = vec![number(rates.beats), writes, number(rates.puts)];
        cells.extend([rates.into_etcd, rates.watched].map(|it| number(it / 1e3)));
        cells.push(list(rates.replicas.iter().map(|cores| cores * 100.0)));
        cells.extend([rates.apiserver, rates.etcd, rates.load].map(|it| number(it * 100.0)));
        table.row(name, cells);
    }
    if let (Some(ours), Some(naive)) = (phase(outcome, BEATING), phase(outcome, NAIVE)) {
        let ratios = naive.totals().into_iter().zip(ours.totals());
        let ratios = ratios.map(|(n, o)| (n - o) / outcome.pace.attained / (o / ours.beats));
        let cells = ratios.map(|ratio| format!("{} ×", number(ratio)));
        let none = || std::iter::once(String::new());
        table.row("naive ÷ ours", none().chain(none()).chain(cells).chain(none()));
    }
    table.print();
    let pace = outcome.pace;
    println!(
        "\nThe API server took {:.0} patches a second at most. {} instances beat by {:.0} a second, of which {:.0} \
         were answered.",
        pace.most, pace.instances, pace.rate, pace.attained
    );
}

fn lives(outcome: &Outcome) {
    let Some(life) = &outcome.life else { return };
    let mut table = Table::new(vec!["API writes of one life".to_owned(), "each".to_owned()]);
    for (what, count) in life {
        table.row(what, [number(*count)]);
    }
    let sum = |events: bool| {
        let of_kind = life.iter().filter(|(what, _)| what.ends_with("events") == events);
        number(of_kind.map(|(_, count)| count).sum())
    };
    table.row("all (budget: 4)", [format!("{} and {} Events", sum(false), sum(true))]);
    table.print();
}

/// What would make the figures worthless.
fn caveats(outcome: &Outcome) {
    let (title, gone) = (title(outcome.run), &outcome.gone);
    println!();
    for (when, account) in ["before the kill", "from the kill on"].iter().zip(outcome.accounts) {
        println!(
            "{title}, beats of the crowd {when}: {} renewed, {} only recorded, {} lost; late by {:.0} ms at most",
            account.renewed,
            account.recorded,
            account.lost,
            account.late.as_secs_f64() * 1e3,
        );
    }
    println!(
        "{title}: {} leases ended though everybody beat; while the victims died {} answers left out somebody \
         who beats, and {} of the dead were still there at the end",
        outcome.expired, gone.wronged, gone.left
    );
}
