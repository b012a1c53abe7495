//! JSON over HTTP, blocking: a scenario is read from the top.

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::http::request;
use hyper::{Method, Request};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::PATIENCE;

/// GET: status and text.
///
/// # Errors
/// No answer.
pub fn get(url: &str) -> Result<(u16, String)> {
    send(Request::builder().method(Method::GET).uri(url).body(Full::default())?)
}

/// POST of JSON: status and JSON answer.
///
/// # Errors
/// No answer, or one that is not JSON.
pub fn post(url: &str, body: &Value) -> Result<(u16, Value)> {
    post_with(Request::builder(), url, body)
}

/// [`post`] of a caller with this API key.
///
/// # Errors
/// As there.
pub fn post_as(url: &str, key: &str, body: &Value) -> Result<(u16, Value)> {
    post_with(Request::builder().header("x-api-key", key), url, body)
}

fn post_with(request: request::Builder, url: &str, body: &Value) -> Result<(u16, Value)> {
    let body = Full::new(Bytes::from(body.to_string()));
    let request = request.method(Method::POST).uri(url).header("content-type", "application/json");
    let (status, text) = send(request.body(body)?)?;
    Ok((status, serde_json::from_str(&text).with_context(|| format!("not JSON: {text}"))?))
}

fn send(request: Request<Full<Bytes>>) -> Result<(u16, String)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let exchange = async {
            let client = Client::builder(TokioExecutor::new()).build_http();
            let response = client.request(request).await?;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await?.to_bytes();
            Ok((status, String::from_utf8(body.to_vec())?))
        };
        tokio::time::timeout(PATIENCE, exchange).await?
    })
}
