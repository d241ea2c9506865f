//! From a change, written by somebody else to the Kubernetes API, to those who watch its service over HTTP, beside a
//! watch of etcd.

use std::{
    io::ErrorKind,
    net::SocketAddr,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use kube::{
    Api,
    api::{Patch, PatchParams},
};
use parking_lot::Mutex;
use rollcall::api::ServiceInstance;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    Server,
    common::{
        ask::eventually,
        compare::median,
        dev::Dev,
        kubernetes::{apply, client, instances},
    },
    etcd,
};

/// Changes.
const CHANGES: usize = 200;

/// Between two of them, so that each is alone.
const PAUSE: Duration = Duration::from_millis(50);

const KEY: &str = "/registry/rollcall.dev/serviceinstances/watched/one-0";

/// With one subscriber, and with a thousand.
pub fn run(dev: &Dev, open: Server) {
    apply(dev, &instances("watched", "one", 1));
    let state = dev.dir.clone();
    for count in [1, 1_000] {
        let changes = etcd::watch(&state, KEY);
        let told = Arc::<Told>::default();
        let subscribers = subscribe(open.address, count, &told);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        runtime.block_on(async {
            let api: Api<ServiceInstance> = Api::namespaced(client(dev).await, "watched");
            for weight in 0..CHANGES {
                let patch = Patch::Merge(json!({"spec": {"weight": weight + 1}}));
                // Somebody else may have written meanwhile: the leader, a status.
                while changes.try_recv().is_ok() {}
                let sent = Instant::now();
                api.patch("one-0", &PatchParams::default(), &patch).await.unwrap();
                let patience = Duration::from_secs(10);
                theirs.push(millis(changes.recv_timeout(patience).unwrap() - sent));
                std::thread::sleep(PAUSE);
                let all = eventually(patience, || told.lock().take_all(count));
                ours.extend(all.into_iter().map(|at| millis(at - sent)));
            }
        });
        drop(subscribers);
        let at = |all: &[f64], percent: usize| all[(all.len() - 1) * percent / 100];
        let (ours_p50, theirs_p50) = (median(&mut ours), median(&mut theirs));
        let (ours, theirs) = (at(&ours, 99), at(&theirs, 99));
        println!(
            "change → {count:>4} subscribers   p50 {ours_p50:.1} ms   p99 {ours:.1} ms   etcd watch p50 {theirs_p50:.1} ms   \
             p99 {theirs:.1} ms   ratio {:.2} and {:.2}",
            ours_p50 / theirs_p50,
            ours / theirs,
        );
    }
}

/// When the subscribers were told of the newest change.
type Told = Mutex<Times>;

#[derive(Default)]
struct Times(Vec<Instant>);

impl Times {
    /// When all of them were.
    fn take_all(&mut self, count: usize) -> Option<Vec<Instant>> {
        (self.0.len() == count).then(|| std::mem::take(&mut self.0))
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// So many streams, each of which has had its snapshot when this returns; the moment of each change goes to `told`.
fn subscribe(address: SocketAddr, count: usize, told: &Arc<Told>) -> tokio::runtime::Runtime {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (ready, begun) = mpsc::channel();
    for _ in 0..count {
        let (told, ready) = (told.clone(), ready.clone());
        runtime.spawn(async move {
            let stream = begin(address).await;
            ready.send(()).unwrap();
            follow(&stream, &told).await;
        });
    }
    for _ in 0..count {
        begun.recv_timeout(Duration::from_secs(60)).unwrap();
    }
    runtime
}

/// A stream that has had its snapshot.
async fn begin(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let path = "/v1/namespaces/watched/services/one/watch";
    let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut buffer = [0; 4096];
    let mut text = String::new();
    while !text.contains("event: snapshot") || !text.ends_with("\n\n\r\n") {
        let read = stream.read(&mut buffer).await.unwrap();
        text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
    stream
}

/// Notes each change, as cheaply as that goes: the readers share the machine with the server.
async fn follow(stream: &TcpStream, told: &Told) {
    while stream.readable().await.is_ok() {
        // Of all of them the same memory. An event fits into a segment and comes alone, behind the size of its chunk.
        let mut buffer = [0; 1024];
        match stream.try_read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => {
                let head = &buffer[..read.min(24)];
                if head.windows(13).any(|part| part == b"event: upsert") {
                    told.lock().0.push(Instant::now());
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}
