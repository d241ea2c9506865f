//! Between hickory's server and `gate`.
//!
//! Owns: taking the time and the seed, handing a reply to hickory, and counting it. Does not own:
//! any rule of DNS.

use std::sync::Arc;

use async_trait::async_trait;
use hickory_proto::{
    op::{Header, HeaderCounts, LowerQuery},
    serialize::binary::BinDecoder,
};
use hickory_server::{
    net::{NetError, runtime::Time, xfer::Protocol},
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo},
    zone_handler::{MessageResponseBuilder, Queries},
};

use crate::clock;
use crate::dns::{
    gate::{Reply, Transport, reply},
    metrics::{Answered, Metrics},
    zone::Zone,
};
use crate::registry::directory::Directory;

/// What every socket's server shares.
#[derive(Clone)]
pub(super) struct Handler {
    pub(super) zone: Arc<Zone>,
    pub(super) directory: Arc<Directory>,
    pub(super) metrics: Metrics,
}

#[async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        response: R,
    ) -> ResponseInfo {
        let watch = clock::Stopwatch::start();
        let transport = match request.protocol() {
            Protocol::Udp => Transport::Udp,
            _ => Transport::Tcp,
        };
        let own = (&*self.zone, &*self.directory);
        let reply = reply(own, request, transport, clock::moment(), fastrand::u64(..));
        let metadata = reply.metadata;
        // No deadline: it encodes and puts the octets into hickory's queue, or fails at once.
        let sent = send(request, reply, response).await;
        self.metrics.answered(Answered {
            kind: request.queries.queries().first().map(LowerQuery::query_type),
            code: metadata.response_code,
            transport,
            truncated: metadata.truncation,
            took: watch.elapsed(),
        });
        sent.unwrap_or_else(|error| {
            tracing::debug!(%error, client = %request.src(), "a DNS answer could not be sent");
            ResponseInfo::from(Header { metadata, counts: HeaderCounts::default() })
        })
    }
}

async fn send(
    request: &Request,
    reply: Reply,
    mut response: impl ResponseHandler,
) -> Result<ResponseInfo, NetError> {
    let none;
    let queries = if reply.question {
        &request.queries
    } else {
        none = Queries::read(&mut BinDecoder::new(&[]), 0)
            .map_err(|error| NetError::from(error.to_string()))?;
        &none
    };
    let builder = MessageResponseBuilder::new(queries, reply.edns.as_ref());
    let answer = &reply.answer;
    let (answers, authority, glue) = (&answer.answers, &answer.authority, &answer.glue);
    response.send_response(builder.build(reply.metadata, answers, authority, [], glue)).await
}
