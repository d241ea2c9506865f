//! Compares rollcall with a baseline. Both sides run in turns.

/// The number of rounds of each side.
const ROUNDS: usize = 7;

/// Runs both sides in turns. Prints the medians of both, and the median, minimum and maximum of the ratios of adjacent
/// rounds. A wide range means that other processes were busy.
pub fn compare(name: &str, other: &str, mut cpu: impl FnMut(bool) -> f64) {
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    cpu(true);
    for _ in 0..ROUNDS {
        let (baseline, own) = (cpu(false), cpu(true));
        theirs.push(baseline);
        ours.push(own);
        ratios.push(own / baseline);
    }
    println!(
        "{name:<44} {:>6.2} µs CPU   {other:<13} {:>6.2} µs CPU   ratio {:.2} ({:.2} to {:.2})",
        median(&mut ours),
        median(&mut theirs),
        median(&mut ratios),
        ratios.first().copied().unwrap_or_default(),
        ratios.last().copied().unwrap_or_default(),
    );
}

pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
