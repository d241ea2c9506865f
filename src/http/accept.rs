//! Accepts connections: how many are open at once, and what happens when accepting fails.
//!
//! Owns: the accept loop of both listeners (`server` and `admin`). `axum::serve` has no limit on connections, no
//! timers, and no TLS whose certificate can be reloaded. Does not own: what happens on a connection.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};
use tracing::warn;

/// The pause after a failed accept. Most often the process is out of file descriptors, and an immediate retry would be
/// a busy loop.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// An accepted connection.
pub(super) struct Accepted {
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    /// Released when the connection ends.
    pub(super) permit: OwnedSemaphorePermit,
}

/// Accepts connections forever, one for each permit in `permits`. When there are none, clients wait in the kernel's
/// queue of 1,024. `flag` is the command-line flag of the listener's address.
pub(super) async fn accept(
    listener: &TcpListener,
    flag: &'static str,
    permits: Arc<Semaphore>,
    mut begin: impl FnMut(Accepted),
) {
    loop {
        // Neither await needs a deadline: a permit is released when a connection ends, and a connection has its own
        // limits; a client can connect at any time.
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => begin(Accepted { stream, peer, permit }),
            Err(error) => {
                warn!(flag, %error, "cannot accept a connection; trying again in 100 ms");
                sleep(RETRY_DELAY).await;
            }
        }
    }
}
