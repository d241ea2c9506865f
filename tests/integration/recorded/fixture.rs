//! The fixture: its text, and the differences between it and a run.
//!
//! Owns: `tests/integration/fixtures/recorded.txt`. Each pair begins with `=== ` and its name; lines of the request begin with
//! `> `, lines of the response with `< `.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// A recorded pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Recorded {
    pub(super) name: String,
    pub(super) request: String,
    pub(super) response: String,
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/integration/fixtures/recorded.txt")
}

fn marked(mark: &str, text: &str) -> String {
    text.lines().map(|line| format!("{mark} {line}").trim_end().to_owned() + "\n").collect()
}

/// Writes the fixture.
pub(super) fn write(pairs: &[Recorded]) {
    let mut out =
        "Requests and the responses to them, as recorded; see tests/integration/recorded.rs. Written with\n\
                   UPDATE_RECORDED=1 cargo test --test integration recorded::\n"
            .to_owned();
    for Recorded { name, request, response } in pairs {
        out.push_str(&format!("\n=== {name}\n"));
        out.push_str(&marked(">", request));
        out.push_str(&marked("<", response));
    }
    std::fs::write(path(), out).unwrap();
}

/// Reads all recorded pairs, in order.
pub(super) fn read() -> Vec<Recorded> {
    let text = std::fs::read_to_string(path()).unwrap_or_default();
    let block = |block: &str| {
        let (name, lines) = block.split_once('\n').unwrap_or((block, ""));
        let lines_with = |mark: &str| {
            let lines = lines.split('\n').filter_map(|line| line.strip_prefix(mark));
            lines.map(|line| line.strip_prefix(' ').unwrap_or(line).to_owned() + "\n").collect()
        };
        Recorded { name: name.to_owned(), request: lines_with(">"), response: lines_with("<") }
    };
    text.split("\n=== ").skip(1).map(block).collect()
}

/// The pair after writing and reading it, which changes its line ends.
pub(super) fn normalized(pair: &Recorded) -> Recorded {
    let trimmed = |text: &str| -> String {
        text.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
    };
    Recorded {
        name: pair.name.clone(),
        request: trimmed(&pair.request),
        response: trimmed(&pair.response),
    }
}

/// Describes all differences.
pub(super) fn differences(recorded: &[Recorded], received: &[Recorded]) -> Vec<String> {
    let by_name: BTreeMap<_, _> = recorded.iter().map(|pair| (pair.name.as_str(), pair)).collect();
    let again = "record it with UPDATE_RECORDED=1 on a server with the intended behavior";
    let mut wrong = Vec::new();
    for pair in received {
        let pair = normalized(pair);
        match by_name.get(pair.name.as_str()) {
            None => wrong.push(format!("=== {}\nis not in the recording: {again}", pair.name)),
            Some(recorded) if recorded.request != pair.request => {
                let lines = difference(&recorded.request, &pair.request);
                wrong.push(format!("=== {}\nits request changed: {again}\n{lines}", pair.name));
            }
            Some(recorded) if recorded.response != pair.response => {
                let lines = difference(&recorded.response, &pair.response);
                wrong.push(format!("=== {}\n{}{lines}", pair.name, marked(">", &pair.request)));
            }
            Some(_) => {}
        }
    }
    for pair in recorded {
        if !received.iter().any(|received| received.name == pair.name) {
            wrong.push(format!("=== {}\nis recorded but not in any table: {again}", pair.name));
        }
    }
    wrong
}

/// The lines that are in only one of the texts. A long line is cut to the part around the first difference.
fn difference(recorded: &str, received: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = (recorded.lines().collect(), received.lines().collect());
    let removed: Vec<_> = old.iter().filter(|line| !new.contains(line)).collect();
    let added: Vec<_> = new.iter().filter(|line| !old.contains(line)).collect();
    if removed.is_empty() && added.is_empty() {
        return format!("the order or number of lines differs:\n{recorded}---\n{received}");
    }
    let mut out = String::new();
    for at in 0..removed.len().max(added.len()) {
        let (was, is) = (removed.get(at).copied().copied(), added.get(at).copied().copied());
        let same = was.zip(is).map_or(0, |(was, is)| {
            was.chars().zip(is.chars()).take_while(|(was, is)| was == is).count()
        });
        for (mark, line) in [("- recorded", was), ("+ received", is)] {
            if let Some(line) = line {
                let begin = same.saturating_sub(80);
                let cut = if begin > 0 { "…" } else { "" };
                let part: String = line.chars().skip(begin).take(400).collect();
                out.push_str(&format!("{mark}: {cut}{part}\n"));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, response: &str) -> Recorded {
        let (name, request) = (name.to_owned(), "GET /".to_owned());
        Recorded { name, request, response: response.to_owned() }
    }

    #[test]
    fn every_difference_is_reported_with_the_name_of_its_pair() {
        let recorded = [normalized(&pair("a", "200\nx: 1")), normalized(&pair("gone", "200"))];
        let received = [pair("a", "200\nx: 2"), pair("new", "200")];
        let wrong = differences(&recorded, &received);
        assert_eq!(wrong.len(), 3, "{wrong:?}");
        assert!(wrong[0].contains("- recorded: x: 1\n+ received: x: 2"), "{}", wrong[0]);
        assert!(wrong[1].contains("=== new") && wrong[2].contains("=== gone"));
        assert!(differences(&recorded[..1], &[pair("a", "200\nx: 1")]).is_empty());
    }
}
