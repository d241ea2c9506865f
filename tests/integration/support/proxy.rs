//! Faults in front of the real API server: a TCP proxy that can stall in one direction or both, delay, or cut all
//! traffic.

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

/// What happens to the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It passes.
    Pass,
    /// All bytes are delayed by this much, in both directions.
    Slow(Duration),
    /// Connections stay open and no bytes pass, like with a stopped server or a broken network path.
    Stall,
    /// Requests pass and answers do not: the API server executes every request, and the replica does not learn of it.
    RequestsOnly,
    /// Answers and watches pass, requests do not.
    AnswersOnly,
    /// New connections are refused and open ones are closed.
    Cut,
}

/// A proxy between one replica and the API server. It ends with its test's runtime.
pub struct Proxy {
    mode: watch::Sender<Mode>,
}

/// The direction of bytes.
#[derive(Clone, Copy)]
enum Direction {
    Requests,
    Answers,
}

/// Bytes that wait until it is time to deliver them.
struct Chunk {
    bytes: Vec<u8>,
    due: Instant,
}

/// The most waiting chunks in one direction of one connection: 4 MiB.
const MAX_WAITING: usize = 64;

impl Proxy {
    /// Starts a proxy, and changes `namespace.rollcall_kubeconfig` to lead to it.
    pub async fn install(namespace: &mut Namespace) -> Self {
        let kubeconfig = namespace.rollcall_kubeconfig.clone();
        let (proxy, path) = Self::in_front_of(&kubeconfig, &namespace.name).await;
        namespace.rollcall_kubeconfig = path;
        proxy
    }

    /// Starts a proxy to the server of a kubeconfig, and writes a kubeconfig that leads to the proxy, in a file with this
    /// name.
    pub async fn in_front_of(kubeconfig: &Path, name: &str) -> (Self, PathBuf) {
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

    /// Sets what happens to the traffic from now on.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

impl Mode {
    fn blocks(self, direction: Direction) -> bool {
        match direction {
            Direction::Requests => matches!(self, Self::Stall | Self::AnswersOnly),
            Direction::Answers => matches!(self, Self::Stall | Self::RequestsOnly),
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
                () = copy(from_client, to_server, modes.clone(), Direction::Requests) => {}
                () = copy(from_server, to_client, modes, Direction::Answers) => {}
            }
        });
    }
}

/// Copies bytes until one of the ends closes, or the traffic is cut.
async fn copy(
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    modes: watch::Receiver<Mode>,
    direction: Direction,
) {
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    let mut cut = modes.clone();
    let transfer = async {
        let delivery = deliver(to, receiver, modes.clone(), direction);
        tokio::pin!(delivery);
        tokio::select! {
            // Chunks that are waiting are still delivered.
            () = receive(from, sender, modes, direction) => delivery.await,
            () = &mut delivery => {}
        }
    };
    tokio::select! {
        () = transfer => {}
        _ = cut.wait_for(|mode| *mode == Mode::Cut) => {}
    }
}

async fn receive(
    mut from: OwnedReadHalf,
    to: mpsc::Sender<Chunk>,
    mut modes: watch::Receiver<Mode>,
    direction: Direction,
) {
    let mut buffer = vec![0; 65_536];
    loop {
        if modes.wait_for(|mode| !mode.blocks(direction)).await.is_err() {
            return;
        }
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return };
        let due = Instant::now() + modes.borrow().delay();
        if to.send(Chunk { bytes: buffer[..read].to_vec(), due }).await.is_err() {
            return;
        }
    }
}

/// Delivers chunks when they are due. Chunks that are due during a stall are delivered after it.
async fn deliver(
    mut to: OwnedWriteHalf,
    mut chunks: mpsc::Receiver<Chunk>,
    mut modes: watch::Receiver<Mode>,
    direction: Direction,
) {
    while let Some(chunk) = chunks.recv().await {
        sleep_until(chunk.due).await;
        if modes.wait_for(|mode| !mode.blocks(direction)).await.is_err() {
            return;
        }
        if to.write_all(&chunk.bytes).await.is_err() {
            return;
        }
    }
}
