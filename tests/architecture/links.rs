//! Links between the pages of the repository.

use std::path::Path;

use crate::tree::{self, File};

/// The targets of a page's links to files, with their lines. Text in code is not a link.
fn relative_links(text: &str) -> Vec<(usize, String)> {
    let mut fenced = false;
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            found.extend(targets(line).map(|target| (at + 1, target)));
        }
    }
    found
}

fn targets(line: &str) -> impl Iterator<Item = String> {
    // Every second part is between backticks.
    let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
    let parts: Vec<String> = prose.split("](").skip(1).map(str::to_owned).collect();
    parts.into_iter().filter_map(|part| {
        let target = part.split([')', ' ']).next()?;
        let path = target.split('#').next()?;
        let elsewhere = target.contains("://") || target.starts_with("mailto:");
        (!path.is_empty() && !elsewhere).then(|| path.to_owned())
    })
}

fn broken(page: &File, exists: impl Fn(&Path) -> bool) -> Vec<String> {
    let folder = Path::new(&page.path).parent().unwrap_or_else(|| Path::new(""));
    let links = relative_links(&page.text).into_iter();
    let missing = links.filter(|(_, target)| !exists(&folder.join(target)));
    missing.map(|(line, target)| format!("{}:{line}: {target}", page.path)).collect()
}

#[test]
fn links_between_pages_have_targets() {
    let exists = |path: &Path| tree::root().join(path).exists();
    let wrong: Vec<_> =
        tree::files("", ".md").iter().flat_map(|page| broken(page, exists)).collect();
    tree::assert_none("these links have no target", &wrong);
}

#[test]
fn broken_link_is_found_with_its_line() {
    let text =
        "[a](b.md) and [c](../d.md#e \"f\")\n```\n[g](h)\n```\n[i](https://j) [k](#l) `[m](n)`\n";
    let page = File::new("docs/o.md", text);
    let found = broken(&page, |path| path == Path::new("docs/b.md"));
    assert_eq!(found, ["docs/o.md:1: ../d.md"]);
}
