//! Minimal HTTP and DNS clients, and waiting for a condition.

use std::{
    io::{self, Read as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    ops::Range,
    time::{Duration, Instant},
};

/// The status and the length of an HTTP response. Its bytes are in the buffer.
pub struct Answer {
    pub status: u16,
    pub body: Range<usize>,
}

/// Reads one response into `buffer`, which grows as needed.
pub fn exchange(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Answer> {
    let mut have = 0;
    let mut more = |have: &mut usize, buffer: &mut Vec<u8>| {
        if buffer.len() == *have {
            buffer.resize(65_536.max(2 * *have), 0);
        }
        match stream.read(&mut buffer[*have..])? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                *have += read;
                io::Result::Ok(())
            }
        }
    };
    loop {
        more(&mut have, buffer)?;
        let Some(head) = buffer[..have].windows(4).position(|w| w == b"\r\n\r\n") else { continue };
        let text = std::str::from_utf8(&buffer[..head]).unwrap().to_ascii_lowercase();
        let status = text[9..12].parse().unwrap();
        let length = text
            .split("content-length: ")
            .nth(1)
            .map_or(0, |rest| rest.split("\r\n").next().unwrap().trim().parse::<usize>().unwrap());
        let body = head + 4..head + 4 + if matches!(status, 204 | 304) { 0 } else { length };
        while have < body.end {
            more(&mut have, buffer)?;
        }
        return Ok(Answer { status, body });
    }
}

/// A DNS query with an EDNS buffer size of 1232 bytes.
pub fn query(name: &str, record_type: u16) -> Vec<u8> {
    let mut query = vec![0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    for label in name.split('.') {
        query.push(label.len() as u8);
        query.extend(label.as_bytes());
    }
    query.push(0);
    query.extend(record_type.to_be_bytes());
    query.extend([0, 1]);
    query.extend([0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0]);
    query
}

/// A socket for queries to one server, with a timeout for each response.
pub fn socket(address: SocketAddr, timeout: Duration) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(address).unwrap();
    socket.set_read_timeout(Some(timeout)).unwrap();
    socket
}

/// Sends the query every 0.2 ms until the response is not empty.
pub fn until_named(address: SocketAddr, query: &[u8]) -> Instant {
    let socket = socket(address, Duration::from_secs(5));
    let mut buffer = [0; 1500];
    loop {
        socket.send(query).unwrap();
        socket.recv(&mut buffer).unwrap();
        if buffer[7] > 0 {
            return Instant::now();
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Polls until the result is not `None`. Panics after `bound`.
pub fn eventually<T>(bound: Duration, mut poll: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = poll() {
            return value;
        }
        assert!(began.elapsed() < bound, "not within {bound:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
