//! `weft explain`: why a router sent a request where it did, and why a part of its prompt was not reused.

mod render;

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::fault::Fault;
use crate::{http, up};

/// Arguments of `weft explain`.
#[derive(Debug, clap::Args)]
pub(crate) struct ExplainArgs {
    /// The request: `x-weft-request-id` of its answer.
    request: String,
    /// Admin addresses of the routers to ask, such as `10.0.0.5:7421`, instead of those of `weft up`. A request is known to the router that
    /// it went through, while it is among the last few thousand.
    #[arg(long = "router", value_name = "ADDR", value_delimiter = ',')]
    routers: Vec<SocketAddr>,
    /// Folder of a running `weft up`.
    #[arg(long, default_value = "run")]
    state: PathBuf,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// Asks each router, until one knows.
pub(crate) async fn run(args: &ExplainArgs) -> anyhow::Result<()> {
    if args.request.is_empty() || !args.request.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let brief: String = args.request.chars().take(80).collect();
        return Err(Fault::Usage(format!(
            "'{brief}' is not a request of a router: expected the digits of `x-weft-request-id`"
        ))
        .into());
    }
    let routers = match args.routers.is_empty() {
        false => args.routers.clone(),
        true => up::routers(&args.state)
            .with_context(|| format!("no `weft up` in {}: name routers with --router", args.state.display()))?,
    };
    let mut silent = Vec::new();
    for router in &routers {
        match http::get(&format!("http://{router}/explain/{}", args.request)).await {
            Ok((200, text)) => return print(args, &text),
            Ok(_) => {}
            Err(error) => silent.push(format!("{error:#}")),
        }
    }
    if silent.len() == routers.len() {
        bail!("no router answers: {}", silent.join("; "));
    }
    let asked: Vec<String> = routers.iter().map(ToString::to_string).collect();
    let request = &args.request;
    Err(Fault::Refused(format!(
        "request {request} is not known at {}: it went through another router, was refused before it was routed, or is too long ago",
        asked.join(", ")
    ))
    .into())
}

fn print(args: &ExplainArgs, text: &str) -> anyhow::Result<()> {
    let explained: Value =
        serde_json::from_str(text).context("the router's answer is not JSON: is it another version?")?;
    match args.json {
        true => println!("{explained:#}"),
        false => print!("{}", render::text(&explained)),
    }
    Ok(())
}
