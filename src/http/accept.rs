//! Accepting connections: how many at once, and what follows when it fails.
//!
//! Owns: the loop of both listeners (`server` and `admin`). `axum::serve` has no bound, no timers and no TLS that is read
//! anew. Does not own: what happens on a connection.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};
use tracing::warn;

/// After a failed accept: most often the process is out of file descriptors, and asking again at
/// once would only spin.
const PAUSE: Duration = Duration::from_millis(100);

/// A connection that has just been accepted.
pub(super) struct Accepted {
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    /// Given back when the connection has ended.
    pub(super) permit: OwnedSemaphorePermit,
}

/// Accepts for ever, as long as there are places; beyond, clients wait in the kernel's queue of 1,024. `flag` is that of the
/// listener's address.
pub(super) async fn accept(
    listener: &TcpListener,
    flag: &'static str,
    places: Arc<Semaphore>,
    mut begin: impl FnMut(Accepted),
) {
    loop {
        // Neither wait has a deadline: connections end by themselves, and clients come when they like.
        let Ok(permit) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => begin(Accepted { stream, peer, permit }),
            Err(error) => {
                warn!(flag, %error, "a connection could not be accepted");
                sleep(PAUSE).await;
            }
        }
    }
}
