//! A persistent HTTP connection.

use std::{
    io::{self, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

use crate::common::ask::exchange;

/// The timeout for connecting, and for one response.
const TIMEOUT: Duration = Duration::from_secs(2);

/// A connection that is opened when it is first used, and reopened after a failure.
pub struct Connection {
    address: SocketAddr,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

impl Connection {
    pub fn to(address: SocketAddr) -> Self {
        Self { address, stream: None, buffer: Vec::new() }
    }

    /// Sends a request with a JSON body or an empty one. `line` is the method and the path. Returns the status and the
    /// body of the response.
    pub fn send(&mut self, line: &str, body: &str) -> io::Result<(u16, &[u8])> {
        self.send_with(line, "", body)
    }

    /// Like [`Self::send`], with additional headers, each of which ends with a line break.
    pub fn send_with(&mut self, line: &str, headers: &str, body: &str) -> io::Result<(u16, &[u8])> {
        let content_type = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
        let length = body.len();
        let request = format!(
            "{line} HTTP/1.1\r\nhost: localhost\r\n{headers}{content_type}content-length: {length}\r\n\r\n{body}"
        );
        let mut stream = self.stream.take().map_or_else(|| self.open(), Ok)?;
        stream.write_all(request.as_bytes())?;
        let answer = exchange(&mut stream, &mut self.buffer)?;
        self.stream = Some(stream);
        Ok((answer.status, &self.buffer[answer.body]))
    }

    /// The body of the response to `GET`, if the status is 200 and the body is JSON.
    pub fn json(&mut self, path: &str) -> Option<Value> {
        let (status, body) = self.send(&format!("GET {path}"), "").ok()?;
        (status == 200).then(|| serde_json::from_slice(body).ok())?
    }

    fn open(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.address, TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        Ok(stream)
    }
}
