//! Streams of events, a thousand at once, read by one thread as cheaply as that goes: it shares the machine with what
//! is measured.

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

/// Within this the thread notices that it is to end.
const LOOK_UP: Duration = Duration::from_millis(100);

/// Of the newest change.
#[derive(Default)]
struct Told {
    /// When each was told.
    at: Vec<Instant>,
    /// Octets that one took, with those around them.
    size: usize,
}

/// Streams that are followed until this is dropped.
pub struct Streams {
    count: usize,
    told: Arc<Mutex<Told>>,
    over: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Streams {
    /// So many, each of which has had its snapshot when this returns.
    pub fn begin(address: SocketAddr, path: &str, count: usize) -> Self {
        let (told, over) = (Arc::<Mutex<Told>>::default(), Arc::<AtomicBool>::default());
        let mut streams: Vec<_> = (0..count).map(|_| begin(address, path)).collect();
        let reader = thread::spawn({
            let (told, over) = (told.clone(), over.clone());
            move || follow(&mut streams, &told, &over)
        });
        Self { count, told, over, reader: Some(reader) }
    }

    /// When each was told of the newest change; none before all of them were.
    pub fn take_all(&self) -> Option<Vec<Instant>> {
        let at = &mut self.told.lock().at;
        assert!(at.len() <= self.count, "told twice of one change");
        (at.len() == self.count).then(|| std::mem::take(at))
    }

    /// Octets that a change takes on a connection.
    pub fn size(&self) -> usize {
        self.told.lock().size
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.reader.take().map(JoinHandle::join);
    }
}

/// A stream that has had its snapshot.
fn begin(address: SocketAddr, path: &str) -> TcpStream {
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

/// Notes when each is told of a change.
fn follow(streams: &mut [TcpStream], told: &Mutex<Told>, over: &AtomicBool) {
    let (mut poll, mut events) = (Poll::new().unwrap(), Events::with_capacity(1_024));
    for (at, stream) in streams.iter_mut().enumerate() {
        poll.registry().register(stream, Token(at), Interest::READABLE).unwrap();
    }
    // Of all of them the same memory. An event fits into a segment and comes alone, behind the size of its chunk.
    let mut buffer = [0; 1_024];
    while !over.load(Ordering::Relaxed) {
        match poll.poll(&mut events, Some(LOOK_UP)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            polled => polled.unwrap(),
        }
        for event in &events {
            let read = match streams[event.token().0].read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                read => read.unwrap(),
            };
            // Less than there was room for, or the rest would never be told of.
            assert!(read > 0 && read < buffer.len(), "{read}");
            let head = &buffer[..read.min(24)];
            if head.windows(13).any(|part| part == b"event: upsert") {
                let mut told = told.lock();
                told.at.push(Instant::now());
                told.size = read;
            }
        }
    }
}
