//! One kept HTTP connection.

use std::{
    io::{self, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

use crate::common::ask::exchange;

/// For one answer, and for a connection.
const PATIENCE: Duration = Duration::from_secs(2);

/// Opened when it is first needed, and anew after a failure.
pub struct Connection {
    address: SocketAddr,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

impl Connection {
    pub fn to(address: SocketAddr) -> Self {
        Self { address, stream: None, buffer: Vec::new() }
    }

    /// Asks with a JSON body, or an empty one; the status and the body of the answer.
    pub fn ask(&mut self, call: &str, body: &str) -> io::Result<(u16, &[u8])> {
        self.ask_with(call, "", body)
    }

    /// The same with further headers; each ends with its line.
    pub fn ask_with(&mut self, call: &str, headers: &str, body: &str) -> io::Result<(u16, &[u8])> {
        let kind = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
        let request = format!(
            "{call} HTTP/1.1\r\nhost: localhost\r\n{headers}{kind}content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = self.stream.take().map_or_else(|| self.open(), Ok)?;
        stream.write_all(request.as_bytes())?;
        let answer = exchange(&mut stream, &mut self.buffer)?;
        self.stream = Some(stream);
        Ok((answer.status, &self.buffer[answer.body]))
    }

    /// What `GET` answers, if it is 200 and JSON.
    pub fn json(&mut self, path: &str) -> Option<Value> {
        let (status, body) = self.ask(&format!("GET {path}"), "").ok()?;
        (status == 200).then(|| serde_json::from_slice(body).ok())?
    }

    fn open(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }
}
