//! DNS over UDP: each task receives a datagram, answers it, and receives the next.
//!
//! Owns: the receive loop, which continues after a failed datagram. Does not own: the answers (`respond`).

use std::{io, sync::Arc, time::Duration};

use tokio::{io::Interest, net::UdpSocket, time::sleep};

use crate::clock::{self, Stopwatch};
use crate::dns::{
    datagram::{self, Received},
    query::MAX_QUERY,
    respond::{Client, Response, Transport},
    state::ServerState,
};

/// The pause after a failed receive, so that a permanent failure does not become a busy loop.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// Answers datagrams until the task is aborted.
pub(super) async fn serve(socket: Arc<UdpSocket>, state: Arc<ServerState>) {
    let mut buffer = vec![0; MAX_QUERY];
    loop {
        let receive = || datagram::receive(&*socket, &mut buffer);
        // No deadline: it waits for the next query.
        match socket.async_io(Interest::READABLE, receive).await {
            Ok(received) => answer_datagram(&socket, &state, &received, &buffer).await,
            // The kernel reports here that the client of an earlier answer has closed its port.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) => {
                tracing::warn!(%error, "cannot receive DNS queries over UDP; trying again in 100 ms");
                sleep(RETRY_DELAY).await;
            }
        }
    }
}

async fn answer_datagram(
    socket: &UdpSocket,
    state: &ServerState,
    received: &Received,
    buffer: &[u8],
) {
    let message = buffer.get(..received.length).filter(|_| !received.truncated);
    let Some(message) = message else { return state.metrics.record_ignored(Transport::Udp) };
    let watch = Stopwatch::start();
    let peer = received.addresses.peer.ip().to_canonical();
    let client = Client { address: peer, transport: Transport::Udp };
    let response = state.responder.respond(message, client, clock::now(), fastrand::u64(..));
    // Zone transfers are never sent over UDP.
    let Response::Message(bytes, summary) = response else {
        return state.metrics.record_ignored(Transport::Udp);
    };
    // No deadline: the socket's queue empties as fast as the network takes it.
    let send = || datagram::send(socket, &received.addresses, &bytes);
    if let Err(error) = socket.async_io(Interest::WRITABLE, send).await {
        tracing::debug!(%error, client = %received.addresses.peer, "cannot send a DNS answer over UDP; the client has to ask again");
    }
    state.metrics.record_answer(Transport::Udp, summary, watch.elapsed());
    state.log.record(message, client, &summary);
}
