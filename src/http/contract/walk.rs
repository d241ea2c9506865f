//! For tests: visits every value of the document with its path.

use serde_json::Value;

/// Calls `visit` with `value` and every value in it.
pub(super) fn walk(value: &Value, path: &str, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, value);
    match value {
        Value::Object(members) => members.iter().for_each(|(key, value)| {
            walk(value, &format!("{path}/{}", key.replace('~', "~0").replace('/', "~1")), visit);
        }),
        Value::Array(items) => items.iter().enumerate().for_each(|(at, item)| {
            walk(item, &format!("{path}/{at}"), visit);
        }),
        _ => {}
    }
}
