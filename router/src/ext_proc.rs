//! The router's decision for gateways that forward by themselves: an endpoint picker, called by Envoy's external processing.
//!
//! ```text
//!  client ──► Envoy ──► engine            Envoy ◄──► here: headers and body in; where to, the tenant's salt, or a refusal out
//! ```
//! The contract is the Gateway API Inference Extension's Endpoint Picker Protocol (proposal 004): the pick and what to fall back to
//! go into a header and into dynamic metadata, in order; a subset that the gateway names is kept to; 503 where nobody in it can
//! answer, 429 where the request is shed. Keys, tenants, admission, policy and `weft explain` are those of the listener for clients.

mod conversation;
mod health;
mod wire;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::{Service, http};
use tonic::server::{Grpc, StreamingService, UnaryService};
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tracing::warn;

use self::wire::{HealthCheckRequest, HealthCheckResponse, ProcessingRequest, ProcessingResponse};
use crate::gateway::Gateway;

/// Name of the service that Envoy calls.
const PROCESSOR: &str = "envoy.service.ext_proc.v3.ExternalProcessor";
const PROCESS: &str = "/envoy.service.ext_proc.v3.ExternalProcessor/Process";
const HEALTH: &str = "/grpc.health.v1.Health/Check";
/// Verdicts on their way to Envoy, of one request: more wait until it has read some.
const VERDICTS_MAX: usize = 16;

/// An endpoint picker for gateways.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtProcConfig {
    /// Where gateways come, TCP: gRPC without TLS. Whoever can connect decides what keys are shown and reads what clients ask, so that this
    /// belongs into the gateway's own network.
    pub listen: SocketAddr,
}

/// What all gateways share.
#[derive(Clone)]
struct Picker {
    gateway: Arc<Gateway>,
}

type Future<T> = Pin<Box<dyn std::future::Future<Output = T> + Send>>;

/// Serves gateways until `stop`.
pub(crate) fn serve(listener: TcpListener, gateway: Arc<Gateway>, stop: CancellationToken) {
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let streams = u32::try_from(gateway.limits.requests).unwrap_or(u32::MAX);
    let server = tonic::transport::Server::builder().max_concurrent_streams(streams);
    tokio::spawn(async move {
        let picker = Picker { gateway };
        if let Err(error) = server.serve_with_incoming_shutdown(picker, incoming, stop.cancelled_owned()).await {
            warn!("the endpoint picker ended: {error}");
        }
    });
}

impl Service<http::Request<Body>> for Picker {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Future<Result<http::Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let picker = self.clone();
        Box::pin(async move {
            Ok(match request.uri().path() {
                PROCESS => Grpc::new(ProstCodec::default()).streaming(picker, request).await,
                HEALTH => Grpc::new(ProstCodec::default()).unary(picker, request).await,
                other => Status::unimplemented(format!("there is no {other} here")).into_http(),
            })
        })
    }
}

impl StreamingService<ProcessingRequest> for Picker {
    type Response = ProcessingResponse;
    type ResponseStream = ReceiverStream<Result<ProcessingResponse, Status>>;
    type Future = Future<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<ProcessingRequest>>) -> Self::Future {
        let (gateway, parts) = (Arc::clone(&self.gateway), request.into_inner());
        Box::pin(async move {
            let (say, said) = mpsc::channel(VERDICTS_MAX);
            tokio::spawn(async move {
                if let Err(status) = conversation::converse(&gateway, parts, &say).await {
                    // Envoy may be gone: then nobody needs to know.
                    let _ = say.send(Err(status)).await;
                }
            });
            Ok(Response::new(ReceiverStream::new(said)))
        })
    }
}

impl UnaryService<HealthCheckRequest> for Picker {
    type Response = HealthCheckResponse;
    type Future = Future<Result<Response<HealthCheckResponse>, Status>>;

    fn call(&mut self, request: Request<HealthCheckRequest>) -> Self::Future {
        let answer = health::check(self, request.get_ref());
        Box::pin(async move { answer.map(Response::new) })
    }
}
