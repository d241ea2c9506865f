//! Answering over UDP: a task that takes a datagram, answers it, and takes the next.
//!
//! Owns: that no failure of one datagram ends it. Does not own: the answers (`respond`).

use std::{io, sync::Arc, time::Duration};

use tokio::{io::Interest, net::UdpSocket, time::sleep};

use crate::clock::{self, Stopwatch};
use crate::dns::{
    datagram::{self, Received},
    query::MAX_QUERY,
    respond::{Client, Outcome, Transport},
    state::ServerState,
};

/// How long nothing is received after the system has failed to: not forever, and not in a circle.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers what comes, for ever.
pub(super) async fn serve(socket: Arc<UdpSocket>, state: Arc<ServerState>) {
    let mut buffer = vec![0; MAX_QUERY];
    loop {
        let receive = || datagram::receive(&*socket, &mut buffer);
        // No deadline: it waits for whoever asks next.
        match socket.async_io(Interest::READABLE, receive).await {
            Ok(received) => answer(&socket, &state, &received, &buffer).await,
            // The last answer found nobody: that is told on the next occasion.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) => {
                tracing::warn!(%error, "no DNS query can be received over UDP; trying again");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn answer(socket: &UdpSocket, state: &ServerState, received: &Received, buffer: &[u8]) {
    let message = buffer.get(..received.length).filter(|_| !received.cut);
    let Some(message) = message else { return state.metrics.ignored(Transport::Udp) };
    let watch = Stopwatch::start();
    let peer = received.path.peer.ip().to_canonical();
    let client = Client { address: peer, transport: Transport::Udp };
    let outcome = state.responder.respond(message, client, clock::now(), fastrand::u64(..));
    // A transfer is never answered over UDP.
    let Outcome::Reply(octets, said) = outcome else {
        return state.metrics.ignored(Transport::Udp);
    };
    // No deadline: the socket's queue empties as fast as the network takes it.
    let send = || datagram::send(socket, &received.path, &octets);
    if let Err(error) = socket.async_io(Interest::WRITABLE, send).await {
        tracing::debug!(%error, client = %received.path.peer, "a DNS answer could not be sent");
    }
    state.metrics.answered(Transport::Udp, said, watch.elapsed());
    state.log.note(message, client, &said);
}
