//! Faults in front of the real API server: a TCP proxy that can stand still in one direction or both, be
//! slow, or cut everything.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::Namespace;
use super::control_plane::state_dir;

/// What becomes of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It passes.
    Pass,
    /// Everything arrives so much later, in either direction.
    Slow(Duration),
    /// Connections stay open and nothing gets through, as with a stopped server or a dead path.
    Stall,
    /// Requests get through, answers do not: what is asked is done, and nobody learns of it.
    Deaf,
    /// Answers and watches get through, requests do not.
    Mute,
    /// Connections are refused, open ones are closed.
    Cut,
}

/// A proxy between one replica and the API server. It ends with its test's runtime.
pub struct Proxy {
    mode: watch::Sender<Mode>,
}

/// In what direction bytes go.
#[derive(Clone, Copy)]
enum Way {
    Requests,
    Answers,
}

/// On their way, until it is time to arrive.
struct Chunk {
    bytes: Vec<u8>,
    due: Instant,
}

/// Chunks on their way in one direction of one connection: 4 MiB at most.
const ON_THE_WAY: usize = 64;

impl Proxy {
    /// Puts a proxy in front of the API server for whatever uses `namespace.rollcall_kubeconfig`.
    pub async fn before(namespace: &mut Namespace) -> Self {
        let kubeconfig = namespace.rollcall_kubeconfig.clone();
        let (proxy, path) = Self::of(&kubeconfig, &namespace.name).await;
        namespace.rollcall_kubeconfig = path;
        proxy
    }

    /// A proxy to the server of a kubeconfig, and the kubeconfig that leads to the proxy. `name` is that
    /// of its file.
    pub async fn of(kubeconfig: &Path, name: &str) -> (Self, PathBuf) {
        let text = std::fs::read_to_string(kubeconfig).unwrap();
        let (_, rest) = text.split_once("https://").unwrap();
        let server: String =
            rest.chars().take_while(|c| c.is_ascii_digit() || ".:".contains(*c)).collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ours = listener.local_addr().unwrap().to_string();
        let path: PathBuf = state_dir("proxy").join(format!("{name}.kubeconfig"));
        std::fs::write(&path, text.replace(&server, &ours)).unwrap();
        let (mode, modes) = watch::channel(Mode::Pass);
        tokio::spawn(accept(listener, server.parse().unwrap(), modes));
        (Self { mode }, path)
    }

    /// From now on.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

impl Mode {
    fn stops(self, way: Way) -> bool {
        match way {
            Way::Requests => matches!(self, Self::Stall | Self::Mute),
            Way::Answers => matches!(self, Self::Stall | Self::Deaf),
        }
    }

    fn delay(self) -> Duration {
        if let Self::Slow(delay) = self { delay } else { Duration::ZERO }
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
                () = copy(from_client, to_server, modes.clone(), Way::Requests) => {}
                () = copy(from_server, to_client, modes, Way::Answers) => {}
            }
        });
    }
}

/// Until one of the ends closes, or everything is cut.
async fn copy(from: OwnedReadHalf, to: OwnedWriteHalf, modes: watch::Receiver<Mode>, way: Way) {
    let (sender, receiver) = mpsc::channel(ON_THE_WAY);
    let mut cut = modes.clone();
    let carried = async {
        let giving = give(to, receiver, modes.clone(), way);
        tokio::pin!(giving);
        tokio::select! {
            // What is on its way still arrives.
            () = take(from, sender, modes, way) => giving.await,
            () = &mut giving => {}
        }
    };
    tokio::select! {
        () = carried => {}
        _ = cut.wait_for(|mode| *mode == Mode::Cut) => {}
    }
}

async fn take(
    mut from: OwnedReadHalf,
    to: mpsc::Sender<Chunk>,
    mut modes: watch::Receiver<Mode>,
    way: Way,
) {
    let mut buffer = vec![0; 65_536];
    loop {
        if modes.wait_for(|mode| !mode.stops(way)).await.is_err() {
            return;
        }
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return };
        let due = Instant::now() + modes.borrow().delay();
        if to.send(Chunk { bytes: buffer[..read].to_vec(), due }).await.is_err() {
            return;
        }
    }
}

/// What was on its way when the proxy stalled arrives when it goes on.
async fn give(
    mut to: OwnedWriteHalf,
    mut chunks: mpsc::Receiver<Chunk>,
    mut modes: watch::Receiver<Mode>,
    way: Way,
) {
    while let Some(chunk) = chunks.recv().await {
        sleep_until(chunk.due).await;
        if modes.wait_for(|mode| !mode.stops(way)).await.is_err() {
            return;
        }
        if to.write_all(&chunk.bytes).await.is_err() {
            return;
        }
    }
}
