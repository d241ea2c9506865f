//! A watch of etcd itself, through its JSON gateway on the socket of `rollcall dev`.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    sync::mpsc,
    time::Instant,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

/// Watches a key whose values are JSON objects. The receiver gets each new value with the time of its arrival.
pub fn watch(state_dir: &Path, key: &str) -> mpsc::Receiver<(Instant, Value)> {
    let mut stream = UnixStream::connect(state_dir.join("etcd:0")).unwrap();
    let body = json!({"create_request": {"key": STANDARD.encode(key)}}).to_string();
    let request = format!(
        "POST /v3/watch HTTP/1.1\r\nhost: etcd\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut lines = BufReader::new(stream).lines();
    // The first message confirms the watch.
    lines.by_ref().map(Result::unwrap).find(|line| line.contains("\"created\":true")).unwrap();
    let (sender, changes) = mpsc::channel();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok).filter(|line| line.contains("\"events\":")) {
            let received = Instant::now();
            let message: Value = serde_json::from_str(&line).unwrap();
            for event in message["result"]["events"].as_array().unwrap() {
                let value = STANDARD.decode(event["kv"]["value"].as_str().unwrap()).unwrap();
                if sender.send((received, serde_json::from_slice(&value).unwrap())).is_err() {
                    return;
                }
            }
        }
    });
    changes
}
