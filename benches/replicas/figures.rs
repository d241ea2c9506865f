//! Durations, and tables in Markdown.

use std::time::Duration;

/// Measured durations.
#[derive(Default)]
pub struct Times(Vec<Duration>);

impl Times {
    pub fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    /// The quantile for `share` (0 to 1), in milliseconds.
    pub fn quantile(&self, share: f64) -> f64 {
        let mut times = self.0.clone();
        times.sort();
        let index = (times.len().saturating_sub(1) as f64 * share).round() as usize;
        times.get(index).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    }

    /// p50, p99 and the maximum.
    pub fn summary(&self) -> String {
        let [p50, p99, max] = [0.5, 0.99, 1.0].map(|share| millis(self.quantile(share)));
        format!("{p50} / {p99} / {max} ms")
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

fn millis(ms: f64) -> String {
    if ms < 100.0 { format!("{ms:.1}") } else { format!("{ms:.0}") }
}

/// Formats a number with about three significant digits.
pub fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A table as rows of cells.
pub struct Table(Vec<Vec<String>>);

impl Table {
    pub fn new(head: Vec<String>) -> Self {
        let rule = head.iter().map(|_| "---".to_owned()).collect();
        Self(vec![head, rule])
    }

    pub fn row(&mut self, name: &str, cells: impl IntoIterator<Item = String>) {
        self.0.push(std::iter::once(name.to_owned()).chain(cells).collect());
    }

    pub fn print(&self) {
        println!();
        for row in &self.0 {
            let cell = |cell: &String| match cell.as_str() {
                "" => " ".to_owned(),
                "---" => "---".to_owned(),
                text => format!(" {text} "),
            };
            let cells: Vec<_> = row.iter().map(cell).collect();
            println!("|{}|", cells.join("|"));
        }
    }
}
