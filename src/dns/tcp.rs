//! Answering over TCP: connections, each with its queries one after another (RFC 7766, RFC 9210).
//!
//! Owns: how long a connection may be idle or slow, and how much it may ask. Does not own: how many there are
//! at once (`connections`), and the answers (`respond`).

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::{JoinSet, spawn_blocking},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::clock::{self, Stopwatch};
use crate::dns::{
    query::MAX_QUERY,
    respond::{Client, Outcome, Transport},
    state::ServerState,
    transfer::Transfer,
};

/// How long the rest of a query may take once it has begun, and how long an answer may take to be taken; but
/// no longer than a connection may be idle.
const SLOW: Duration = Duration::from_secs(5);

/// How long a client has to see that we are done with a connection on which it goes on asking; less than all
/// connections have when we stop.
const LAST: Duration = Duration::from_secs(1);

/// Queries of one connection; then it is closed, so that clients spread over replicas that came later.
const QUERIES: usize = 10_000;

/// What of a connection is read at once: some hundred queries.
const READ: usize = 8192;

/// How long nobody is let in after the system has failed to.
const PAUSE: Duration = Duration::from_millis(100);

/// Lets connections in until told to stop; then those that are open finish what they are at.
pub(super) async fn serve(listener: TcpListener, state: Arc<ServerState>, stop: CancellationToken) {
    let mut running = JoinSet::new();
    loop {
        // No deadline: it waits for whoever connects next.
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
            Some(end) = running.join_next() => {
                if let Err(error) = end {
                    tracing::error!(%error, "a DNS connection broke down");
                }
                continue;
            }
        };
        match accepted {
            Ok((stream, peer)) => match state.connections.enter(peer.ip().to_canonical()) {
                Some(permit) => {
                    let serve = connection(stream, peer, state.clone(), stop.clone());
                    running.spawn(async move {
                        serve.await;
                        drop(permit);
                    });
                }
                None => state.metrics.turned_away(),
            },
            Err(error) => {
                tracing::warn!(%error, "no DNS client can be let in over TCP; trying again");
                sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    // No deadline: each ends within the time that a query and an answer may take, and the caller has one.
    while running.join_next().await.is_some() {}
}

/// See [`SLOW`].
fn slow(state: &ServerState) -> Duration {
    state.idle().min(SLOW)
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    state: Arc<ServerState>,
    stop: CancellationToken,
) {
    // An answer is one write: there is nothing to wait for.
    let _ = stream.set_nodelay(true);
    let mut stream = BufReader::with_capacity(READ, stream);
    let client = Client { address: peer.ip().to_canonical(), transport: Transport::Tcp };
    let mut message = Vec::new();
    for _ in 0..QUERIES {
        let length = tokio::select! {
            () = stop.cancelled() => break,
            length = timeout(state.idle(), stream.read_u16()) => length,
        };
        let Ok(Ok(length)) = length else { return };
        let length = usize::from(length);
        if length > MAX_QUERY {
            return state.metrics.ignored(Transport::Tcp);
        }
        message.resize(length, 0);
        let Ok(Ok(_)) = timeout(slow(&state), stream.read_exact(&mut message)).await else {
            return;
        };
        if !answer(stream.get_mut(), &message, client, &state).await {
            return;
        }
    }
    part(stream.get_mut()).await;
}

/// Ends a connection from our side. Were it closed while queries lie unread, the system would reset it, and
/// answers that are on their way would be lost.
async fn part(stream: &mut TcpStream) {
    let mut unread = [0; 1024];
    let ended = async {
        let _ = stream.shutdown().await;
        while matches!(stream.read(&mut unread).await, Ok(1..)) {}
    };
    let _ = timeout(LAST, ended).await;
}

/// Answers one query; whether the connection can go on.
async fn answer(
    stream: &mut TcpStream,
    message: &[u8],
    client: Client,
    state: &ServerState,
) -> bool {
    let watch = Stopwatch::start();
    match state.responder.respond(message, client, clock::now(), fastrand::u64(..)) {
        Outcome::Silence => {
            state.metrics.ignored(Transport::Tcp);
            false
        }
        Outcome::Reply(octets, said) => {
            let written = write(stream, &octets, slow(state)).await;
            state.metrics.answered(Transport::Tcp, said, watch.elapsed());
            state.log.note(message, client, &said);
            written
        }
        Outcome::Transfer(transfer) => send(stream, *transfer, client, state).await,
    }
}

async fn send(
    stream: &mut TcpStream,
    mut transfer: Transfer,
    client: Client,
    state: &ServerState,
) -> bool {
    let watch = Stopwatch::start();
    let (mut messages, mut octets, mut whole) = (0_usize, 0, true);
    // More than that come again later: a secondary asks until it is answered.
    let Ok(_place) = state.transfers.try_acquire() else {
        state.metrics.transferred(false);
        return false;
    };
    loop {
        // A service with thousands of instances is some milliseconds' work, which nobody else should wait for.
        let made = spawn_blocking(move || {
            let message = transfer.next();
            (transfer, message)
        });
        // No deadline: it computes, and waits for nobody.
        let Ok((rest, message)) = made.await else {
            whole = false;
            break;
        };
        transfer = rest;
        let Some(message) = message else { break };
        whole = write(stream, &message, slow(state)).await;
        if !whole {
            break;
        }
        messages += 1;
        octets += message.len();
    }
    state.metrics.transferred(whole);
    let (client, millis) = (client.address, watch.elapsed().as_millis());
    if whole {
        tracing::info!(%client, messages, octets, millis, "the zone was transferred");
    } else {
        tracing::warn!(%client, messages, octets, millis, "a transfer of the zone was cut off");
    }
    whole
}

async fn write(stream: &mut TcpStream, octets: &[u8], slow: Duration) -> bool {
    let Ok(length) = u16::try_from(octets.len()) else { return false };
    let framed = [&length.to_be_bytes(), octets].concat();
    matches!(timeout(slow, stream.write_all(&framed)).await, Ok(Ok(())))
}
