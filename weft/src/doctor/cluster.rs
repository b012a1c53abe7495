//! The cluster: who answers, whether the members have a leader, and whether engines that serve a model can share it.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use weft_metadata_client::MetadataClient;
use weft_node::{Inventory, InventoryRequest};
use weft_transport::Target;
use weft_types::{Contract, EndpointSpec, NodeSpec, Role, Roster};

use super::finding::Finding;
use crate::cluster::{Cluster, ClusterArgs};
use crate::metadata::status::{Answers, ask, freshest};

/// Longest wait for the roster.
const ROSTER_WITHIN: Duration = Duration::from_secs(2);

/// Longest wait for a node.
const NODE_WITHIN: Duration = Duration::from_secs(2);

/// Nodes and endpoints that are asked: a doctor is no load test.
const ASKED_MAX: usize = 64;

/// All of it.
pub(super) async fn look(args: &ClusterArgs) -> Vec<Finding> {
    let cluster = match args.open() {
        Ok(cluster) => cluster,
        Err(error) => return vec![Finding::skipped("cluster", format!("{error:#}"))],
    };
    let findings = ask_all(&cluster).await;
    cluster.fabric.close().await;
    findings
}

async fn ask_all(cluster: &Cluster) -> Vec<Finding> {
    let answers = match ask(cluster).await {
        Ok(answers) => answers,
        Err(error) => {
            let remedy =
                "are they up? Does a firewall pass UDP 7400? Is the certificate of this cluster, and of role admin?";
            return vec![Finding::broken("members", format!("{error:#}"), remedy)];
        }
    };
    let mut findings = of_members(&answers);
    let alive = answers.iter().filter(|(_, answer)| answer.is_ok()).map(|(addr, _)| *addr).collect();
    let roster = match MetadataClient::new(cluster.fabric.clone(), alive).roster(ROSTER_WITHIN).await {
        Ok(roster) => roster,
        Err(error) => {
            findings.push(Finding::broken("roster", error.to_string(), "see the members' logs"));
            return findings;
        }
    };
    findings.push(of_nodes(cluster, &roster).await);
    findings.push(of_engines(&roster).await);
    findings.extend(of_contracts(&roster.endpoints.values().collect::<Vec<_>>()));
    findings
}

fn of_members(answers: &Answers) -> Vec<Finding> {
    let silent: Vec<_> =
        answers.iter().filter_map(|(addr, answer)| Some(format!("{addr}: {}", answer.as_ref().err()?))).collect();
    let members = match silent.is_empty() {
        true => Finding::well("members", format!("{} answer", answers.len())),
        false => Finding::broken(
            "members",
            silent.join("; "),
            "start them again, or take those that are gone out of the group",
        ),
    };
    let leader = match freshest(answers).and_then(|status| status.leader) {
        Some(leader) => Finding::well("leader", format!("member {leader}")),
        None => Finding::broken("leader", "none", "a majority of members must be up, and reach each other over UDP"),
    };
    vec![members, leader]
}

async fn of_nodes(cluster: &Cluster, roster: &Roster) -> Finding {
    let ask = async |node: &NodeSpec| {
        let target = Target { addr: node.fabric, role: Role::Node, name: Some(node.id.name().clone()) };
        let answer = cluster.fabric.call::<Inventory>(&target, &InventoryRequest {}, NODE_WITHIN).await;
        answer.err().map(|error| format!("{} at {}: {error}", node.id, node.fabric))
    };
    let silent: Vec<_> = join_all(roster.nodes.values().take(ASKED_MAX).map(ask)).await.into_iter().flatten().collect();
    match silent.is_empty() {
        true => Finding::well("nodes", format!("{} answer", roster.nodes.len())),
        false => Finding::broken(
            "nodes",
            silent.join("; "),
            "is the daemon up? Does a firewall pass its fabric's UDP port (7410)?",
        ),
    }
}

async fn of_engines(roster: &Roster) -> Finding {
    let ask = async |endpoint: &EndpointSpec| {
        let answer = crate::http::get(&format!("{}/v1/models", endpoint.url)).await;
        answer.err().map(|error| format!("{} at {}: {error}", endpoint.id, endpoint.url))
    };
    let silent: Vec<_> =
        join_all(roster.endpoints.values().take(ASKED_MAX).map(ask)).await.into_iter().flatten().collect();
    match silent.is_empty() {
        true => Finding::well("engines", format!("{} answer", roster.endpoints.len())),
        false => Finding::broken(
            "engines",
            silent.join("; "),
            "set the connector's url (WEFT_URL) to where routers reach the engine",
        ),
    }
}

/// Engines that serve a model under different contracts find nothing of each other's: which field differs.
fn of_contracts(endpoints: &[&EndpointSpec]) -> Vec<Finding> {
    let mut first: BTreeMap<&str, (&EndpointSpec, &Contract)> = BTreeMap::new();
    let mut apart = Vec::new();
    for (endpoint, contract) in
        endpoints.iter().flat_map(|one| one.contracts.iter().map(move |contract| (*one, contract)))
    {
        let (other, agreed) = *first.entry(&contract.model_key.model).or_insert((endpoint, contract));
        if let Err(conflict) = agreed.check(contract) {
            apart.push(format!("{} and {}: {conflict}", other.id, endpoint.id));
        }
    }
    let tokens = apart.iter().filter(|said| said.contains("tokenizer") || said.contains("chat_template")).count();
    let contracts = match apart.len() - tokens {
        0 => Finding::well("contracts", format!("of {} models, each one", first.len())),
        _ => Finding::poor(
            "contracts",
            apart.join("; "),
            "give engines of one model the same weights, dtype, KV dtype, block size and backend; connectors take model and revision",
        ),
    };
    let parity = match tokens {
        0 => Finding::well("tokenizers", "engines of a model name the same, as far as they name one"),
        _ => Finding::broken(
            "tokenizers",
            apart.join("; "),
            "give engines and routers the same tokenizer and chat template files",
        ),
    };
    vec![contracts, parity]
}
