//! A thousand concurrent streams of events, read by one thread as cheaply as possible, because it shares the machine
//! with the measured servers.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, net::TcpStream};
use parking_lot::Mutex;

/// How often the reading thread checks whether it must stop.
const CHECK_EVERY: Duration = Duration::from_millis(100);

/// The events of the last change.
#[derive(Default)]
struct Received {
    /// When each stream received its event.
    at: Vec<Instant>,
    /// The size of one event, with its chunk header.
    size: usize,
}

/// Streams that are read until this is dropped.
pub struct Streams {
    count: usize,
    received: Arc<Mutex<Received>>,
    stop: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Streams {
    /// Opens `count` streams, and returns when each has received its snapshot.
    pub fn open(address: SocketAddr, path: &str, count: usize) -> Self {
        let (received, stop) = (Arc::<Mutex<Received>>::default(), Arc::<AtomicBool>::default());
        let mut streams: Vec<_> = (0..count).map(|_| open_stream(address, path)).collect();
        let reader = thread::spawn({
            let (received, stop) = (received.clone(), stop.clone());
            move || read_events(&mut streams, &received, &stop)
        });
        Self { count, received, stop, reader: Some(reader) }
    }

    /// When each stream received the last change. `None` until all have received it.
    pub fn take_all(&self) -> Option<Vec<Instant>> {
        let at = &mut self.received.lock().at;
        assert!(at.len() <= self.count, "a stream received one change twice");
        (at.len() == self.count).then(|| std::mem::take(at))
    }

    /// The bytes of a change on a connection.
    pub fn size(&self) -> usize {
        self.received.lock().size
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.reader.take().map(JoinHandle::join);
    }
}

/// Opens a stream and reads its snapshot.
fn open_stream(address: SocketAddr, path: &str) -> TcpStream {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    while !text.contains("event: snapshot") || !text.ends_with("\n\n\r\n") {
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0, "ended early: {text}");
        text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
    stream.set_nonblocking(true).unwrap();
    TcpStream::from_std(stream)
}

/// Records when each stream receives a change.
fn read_events(streams: &mut [TcpStream], received: &Mutex<Received>, stop: &AtomicBool) {
    let (mut poll, mut events) = (Poll::new().unwrap(), Events::with_capacity(1_024));
    for (at, stream) in streams.iter_mut().enumerate() {
        poll.registry().register(stream, Token(at), Interest::READABLE).unwrap();
    }
    // One buffer for all streams. An event fits into a segment and arrives alone, after its chunk size.
    let mut buffer = [0; 1_024];
    while !stop.load(Ordering::Relaxed) {
        match poll.poll(&mut events, Some(CHECK_EVERY)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            polled => polled.unwrap(),
        }
        for event in &events {
            let read = match streams[event.token().0].read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                read => read.unwrap(),
            };
            // If the buffer were full, the rest of the event would never be read.
            assert!(read > 0 && read < buffer.len(), "{read}");
            let head = &buffer[..read.min(24)];
            if head.windows(13).any(|part| part == b"event: upsert") {
                let mut received = received.lock();
                received.at.push(Instant::now());
                received.size = read;
            }
        }
    }
}
