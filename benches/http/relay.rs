//! The baseline for subscribers: a watch of etcd, and one thread that writes each change to each subscriber.
//!
//! It implements only as much of HTTP as the clients of this benchmark check: each event has the form of a chunk.

use std::{
    ffi::OsString,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::Arc,
    thread,
};

use parking_lot::Mutex;

use crate::{
    etcd,
    subscribers::{KEY, weight},
};

/// Sends each new weight to every connection, in `size` bytes.
pub fn run(size: usize, state_dir: OsString) {
    let changes = etcd::watch(Path::new(&state_dir), KEY);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}", listener.local_addr().unwrap());
    let streams = Arc::<Mutex<Vec<TcpStream>>>::default();
    thread::spawn({
        let streams = streams.clone();
        move || listener.incoming().for_each(|stream| streams.lock().push(begin(stream.unwrap())))
    });
    let event = format!("{:x}\r\nevent: upsert\n", size);
    let event = format!("{event}{}\n\n\r\n", "x".repeat(size.saturating_sub(event.len() + 4)));
    let mut last = None;
    for (_, value) in changes {
        let newest = weight(&value);
        if last.replace(newest) == Some(newest) {
            continue;
        }
        // Closed connections are removed.
        streams.lock().retain_mut(|stream| stream.write_all(event.as_bytes()).is_ok());
    }
}

/// Reads the request, and sends the head of the response and a snapshot.
fn begin(mut stream: TcpStream) -> TcpStream {
    stream.set_nodelay(true).unwrap();
    let (mut head, mut buffer) = (Vec::new(), [0; 1024]);
    while !head.ends_with(b"\r\n\r\n") {
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0, "the client closed the connection before its request");
        head.extend_from_slice(&buffer[..read]);
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nevent: snapshot\n\n\r\n").unwrap();
    stream
}
