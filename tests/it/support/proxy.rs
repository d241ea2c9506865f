//! Faults in front of the real API server: a TCP proxy that can stand still or cut everything.

use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::Namespace;
use super::control_plane::state_dir;

/// What becomes of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It passes.
    Pass,
    /// Connections stay open and nothing gets through, as with a stopped server or a dead path.
    Stall,
    /// Requests get through, answers do not: what is asked is done, and nobody learns of it.
    Deaf,
    /// Connections are refused, open ones are closed.
    Cut,
}

/// A proxy between one replica and the API server. It ends with its test's runtime.
pub struct Proxy {
    mode: watch::Sender<Mode>,
}

impl Proxy {
    /// Puts a proxy in front of the API server for whatever uses `namespace.rollcall_kubeconfig`.
    pub async fn before(namespace: &mut Namespace) -> Self {
        let text = std::fs::read_to_string(&namespace.rollcall_kubeconfig).unwrap();
        let (_, rest) = text.split_once("https://").unwrap();
        let server: String =
            rest.chars().take_while(|c| c.is_ascii_digit() || ".:".contains(*c)).collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ours = listener.local_addr().unwrap().to_string();
        let path: PathBuf = state_dir("proxy").join(format!("{}.kubeconfig", namespace.name));
        std::fs::write(&path, text.replace(&server, &ours)).unwrap();
        namespace.rollcall_kubeconfig = path;
        let (mode, modes) = watch::channel(Mode::Pass);
        tokio::spawn(accept(listener, server.parse().unwrap(), modes));
        Self { mode }
    }

    /// From now on.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, modes: watch::Receiver<Mode>) {
    while let Ok((client, _)) = listener.accept().await {
        if *modes.borrow() == Mode::Cut {
            continue;
        }
        let modes = modes.clone();
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(server).await else { return };
            let ((from_client, to_client), (from_server, to_server)) =
                (client.into_split(), server.into_split());
            tokio::select! {
                () = copy(from_client, to_server, modes.clone(), &[Mode::Stall]) => {}
                () = copy(from_server, to_client, modes, &[Mode::Stall, Mode::Deaf]) => {}
            }
        });
    }
}

async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut modes: watch::Receiver<Mode>,
    stalls: &[Mode],
) {
    let mut buffer = vec![0; 65_536];
    loop {
        if modes.wait_for(|mode| !stalls.contains(mode)).await.is_err() {
            return;
        }
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            _ = modes.wait_for(|mode| *mode == Mode::Cut) => return,
        };
        let Ok(read @ 1..) = read else { return };
        // What was on its way when the proxy stalled arrives when it goes on.
        if modes.wait_for(|mode| !stalls.contains(mode)).await.is_err() {
            return;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
