//! DNS over TCP: each connection answers its queries one after another (RFC 7766, RFC 9210).
//!
//! Owns: the timeouts and the number of queries of a connection. Does not own: the number of connections
//! (`connections`), and the answers (`respond`).

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
    respond::{Client, Response, Transport},
    state::ServerState,
    transfer::Transfer,
};

/// The time limit for receiving the rest of a query, and for writing an answer; never more than the idle timeout.
const MAX_IO_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a closing connection still reads from a client that keeps sending. This is less than the time that the
/// server gives its connections when it stops.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The maximum number of queries on one connection. Then it is closed, so that clients also connect to replicas that
/// started later.
const MAX_QUERIES: usize = 10_000;

/// The size of a connection's read buffer, which holds a few hundred queries.
const READ_BUFFER: usize = 8192;

/// The pause after a failed accept.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Accepts connections until `stop` is cancelled; open connections then finish the query that they are answering.
pub(super) async fn serve(listener: TcpListener, state: Arc<ServerState>, stop: CancellationToken) {
    let mut running = JoinSet::new();
    loop {
        // No deadline: it waits for the next connection.
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
            Some(end) = running.join_next() => {
                if let Err(error) = end {
                    tracing::error!(%error, "the task of a DNS connection over TCP panicked; the connection is closed");
                }
                continue;
            }
        };
        match accepted {
            Ok((stream, peer)) => match state.connections.admit(peer.ip().to_canonical()) {
                Some(permit) => {
                    let serve = serve_connection(stream, peer, state.clone(), stop.clone());
                    running.spawn(async move {
                        serve.await;
                        drop(permit);
                    });
                }
                None => state.metrics.record_refused_connection(),
            },
            Err(error) => {
                tracing::warn!(%error, "cannot accept DNS connections over TCP; trying again in 100 ms");
                sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
    drop(listener);
    // No deadline: each connection ends within its own timeouts, and the caller has a deadline.
    while running.join_next().await.is_some() {}
}

/// See [`MAX_IO_TIMEOUT`].
fn io_timeout(state: &ServerState) -> Duration {
    state.idle_timeout().min(MAX_IO_TIMEOUT)
}

async fn serve_connection(
    stream: TcpStream,
    peer: SocketAddr,
    state: Arc<ServerState>,
    stop: CancellationToken,
) {
    // Each answer is one write, so there is nothing to gain from delaying it until more data is written.
    let _ = stream.set_nodelay(true);
    let mut stream = BufReader::with_capacity(READ_BUFFER, stream);
    let client = Client { address: peer.ip().to_canonical(), transport: Transport::Tcp };
    let mut message = Vec::new();
    for _ in 0..MAX_QUERIES {
        let length = tokio::select! {
            () = stop.cancelled() => break,
            length = timeout(state.idle_timeout(), stream.read_u16()) => length,
        };
        let Ok(Ok(length)) = length else { return };
        let length = usize::from(length);
        if length > MAX_QUERY {
            return state.metrics.record_ignored(Transport::Tcp);
        }
        message.resize(length, 0);
        let Ok(Ok(_)) = timeout(io_timeout(&state), stream.read_exact(&mut message)).await else {
            return;
        };
        if !answer_query(stream.get_mut(), &message, client, &state).await {
            return;
        }
    }
    close_gracefully(stream.get_mut()).await;
}

/// Shuts the connection down, and reads until the client closes it. If queries were unread, closing would make the
/// kernel reset the connection, and answers in transit would be lost.
async fn close_gracefully(stream: &mut TcpStream) {
    let mut unread = [0; 1024];
    let ended = async {
        let _ = stream.shutdown().await;
        while matches!(stream.read(&mut unread).await, Ok(1..)) {}
    };
    let _ = timeout(CLOSE_TIMEOUT, ended).await;
}

/// Answers one query. Returns whether the connection stays open.
async fn answer_query(
    stream: &mut TcpStream,
    message: &[u8],
    client: Client,
    state: &ServerState,
) -> bool {
    let watch = Stopwatch::start();
    match state.responder.respond(message, client, clock::now(), fastrand::u64(..)) {
        Response::Dropped => {
            state.metrics.record_ignored(Transport::Tcp);
            false
        }
        Response::Message(bytes, summary) => {
            let written = write_message(stream, &bytes, io_timeout(state)).await;
            state.metrics.record_answer(Transport::Tcp, summary, watch.elapsed());
            state.log.record(message, client, &summary);
            written
        }
        Response::Transfer(transfer) => send_transfer(stream, *transfer, client, state).await,
    }
}

async fn send_transfer(
    stream: &mut TcpStream,
    mut transfer: Transfer,
    client: Client,
    state: &ServerState,
) -> bool {
    let watch = Stopwatch::start();
    let (mut messages, mut bytes, mut whole) = (0_usize, 0, true);
    // A secondary beyond the limit tries again later.
    let Ok(_permit) = state.transfers.try_acquire() else {
        state.metrics.record_transfer(false);
        return false;
    };
    loop {
        // Encoding a service with thousands of instances takes milliseconds, which must not delay other tasks on this
        // thread.
        let encoding = spawn_blocking(move || {
            let message = transfer.next();
            (transfer, message)
        });
        // No deadline: it only computes.
        let Ok((rest, message)) = encoding.await else {
            whole = false;
            break;
        };
        transfer = rest;
        let Some(message) = message else { break };
        whole = write_message(stream, &message, io_timeout(state)).await;
        if !whole {
            break;
        }
        messages += 1;
        bytes += message.len();
    }
    state.metrics.record_transfer(whole);
    let (client, millis) = (client.address, watch.elapsed().as_millis());
    if whole {
        tracing::info!(%client, messages, bytes, millis, "transferred the zone");
    } else {
        tracing::warn!(%client, messages, bytes, millis, "a zone transfer was cut off; the secondary has to ask again");
    }
    whole
}

async fn write_message(stream: &mut TcpStream, bytes: &[u8], deadline: Duration) -> bool {
    let Ok(length) = u16::try_from(bytes.len()) else { return false };
    let framed = [&length.to_be_bytes(), bytes].concat();
    matches!(timeout(deadline, stream.write_all(&framed)).await, Ok(Ok(())))
}
