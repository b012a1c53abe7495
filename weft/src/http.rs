//! A small HTTP client for admin ports and demonstrations.

use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

/// Longest wait for an answer: admin ports answer from memory.
const DEADLINE: Duration = Duration::from_secs(5);
/// Largest answer: the state of a node with a few hundred endpoints is some 100 KB.
const BODY_MAX: usize = 16 << 20;

/// GET: status and text.
pub(crate) async fn get(url: &str) -> anyhow::Result<(u16, String)> {
    let uri = url.parse().with_context(|| format!("'{url}' is not a URL"))?;
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let answer = async {
        let response = client.get(uri).await?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), BODY_MAX).collect().await.map_err(anyhow::Error::from_boxed)?;
        Ok((status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
    };
    tokio::time::timeout(DEADLINE, answer).await.with_context(|| format!("{url}: no answer within {DEADLINE:?}"))?
}
