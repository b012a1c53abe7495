//! An operator's day: a tenant and its key, who has a prompt, a pin that holds against clearing, clearing for good, and all of
//! it on record. And memory that runs short takes everything but what is pinned.
#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use serde_json::{Value, json};
use weft_cluster_tests::{Cluster, await_that, get, post, post_as};

/// Blocks that a node's own tier has of the prompt.
fn held_by_nodes(found: &Value) -> u64 {
    let holders = found["prefixes"][0]["holders"].as_array().unwrap();
    holders
        .iter()
        .filter(|holder| holder["tier"] == "host")
        .filter_map(|holder| holder["blocks"].as_u64())
        .max()
        .unwrap_or(0)
}

/// Sum of a column over the nodes.
fn over_nodes(cleared: &Value, what: &str) -> u64 {
    cleared["nodes"].as_array().unwrap().iter().filter_map(|node| node[what].as_u64()).sum()
}

/// A prompt that no other number has, and its file.
fn prompt(cluster: &Cluster, number: u32) -> (String, String) {
    let text: String = (0..300).map(|word| format!("word{number}x{word} is here ")).collect();
    let file = cluster.state().join(format!("prompt-{number}.txt"));
    std::fs::write(&file, &text).unwrap();
    (text, file.to_str().unwrap().to_owned())
}

/// Has an engine compute and store a prompt.
fn serve(url: &str, text: &str) -> Value {
    let body = json!({ "model": "sim-8b", "prompt": text, "max_tokens": 1 });
    let (status, answer) = post(&format!("{url}/v1/completions"), &body).unwrap();
    assert_eq!(status, 200, "{answer}");
    answer
}

#[test]
fn a_pinned_prompt_is_not_evicted() {
    // Blocks of 16 KiB: 128 fit.
    let cluster = Cluster::start(&["--host-memory", "2MiB"]).unwrap();
    cluster.operator(&["tenant", "add", "demo", "--unsalted"]).unwrap();
    let (engine, pinned, first) = (cluster.engine(1), prompt(&cluster, 0), prompt(&cluster, 1));
    let held = |file: &str| {
        let found = cluster.operator(&["lookup", "--prompt", file]).unwrap();
        (held_by_nodes(&found), found["prefixes"][0]["blocks"].as_u64().unwrap())
    };
    let whole = |file: &str| {
        let (held, all) = held(file);
        Ok((held == all).then_some(all))
    };
    serve(&engine, &pinned.0);
    let blocks = await_that("the prompt is found", || whole(&pinned.1)).unwrap();
    assert!((10..60).contains(&blocks), "{blocks} blocks, at most half of a node's");
    cluster.operator(&["pin", "--tenant", "demo", "--for", "1h", "--prompt", &pinned.1]).unwrap();
    await_that("the node knows of the pin", || {
        let (_, state) = get(&format!("http://{}.21:7411/state", cluster.subnet()))?;
        Ok((serde_json::from_str::<Value>(&state)?["arenas"][0]["leased"] == blocks).then_some(()))
    })
    .unwrap();

    serve(&engine, &first.0);
    await_that("the other prompt is found", || whole(&first.1)).unwrap();
    // Three times what fits.
    (2..2 + u32::try_from(3 * 128 / blocks).unwrap())
        .for_each(|number| _ = serve(&engine, &prompt(&cluster, number).0));
    await_that("what is not pinned is evicted", || Ok((held(&first.1).0 == 0).then_some(()))).unwrap();
    assert_eq!(held(&pinned.1), (blocks, blocks));
}

#[test]
fn a_pinned_prompt_outlives_clearing_and_goes_when_it_is_unpinned() {
    let cluster = Cluster::start(&[]).unwrap();
    let (text, file) = prompt(&cluster, 0);
    let file = file.as_str();

    cluster.operator(&["tenant", "add", "demo", "--unsalted", "--lease-blocks", "100"]).unwrap();
    let secret =
        cluster.operator(&["tenant", "key", "add", "demo", "ci"]).unwrap()["secret"].as_str().unwrap().to_owned();
    assert!(secret.starts_with("weft_ci_"), "{secret}");
    assert_eq!(cluster.operator(&["tenant", "show", "demo"]).unwrap()["keys"], json!(["ci"]));
    assert!(!cluster.logs().unwrap().contains(&secret), "the secret stays with whoever asked for it");
    let error = cluster.operator(&["pin", "--tenant", "dmo", "--for", "1h", "--prompt", file]).unwrap_err().to_string();
    assert!(error.contains("exit Some(77)") && error.contains("did you mean demo?"), "{error}");

    cluster.operator(&["tenant", "group", "add", "docs"]).unwrap();
    let public = cluster.operator(&["tenant", "group", "publish", "docs", "system", "--prompt", file]).unwrap();
    let answer = serve(&cluster.router(), &text);
    let blocks = await_that("the prompt is found", || {
        let found = cluster.operator(&["lookup", "--prompt", file])?;
        assert_eq!(found["tokens"], answer["usage"]["prompt_tokens"], "the engine's own tokens");
        let blocks = found["prefixes"][0]["blocks"].as_u64();
        Ok(blocks.filter(|blocks| held_by_nodes(&found) == *blocks))
    })
    .unwrap();
    assert!(blocks > 10, "{blocks} blocks");
    assert_eq!(public["blocks"], blocks);

    let listed_as_held = |status: &Value| {
        let holders = status["holders"].as_array()?;
        let same = |holder: &Value| holder["held"].is_u64() && holder["blocks"] == holder["held"];
        (!holders.is_empty() && holders.iter().all(same)).then_some(())
    };
    cluster.await_status("what is listed is what the nodes say they hold", listed_as_held).unwrap();

    let pinned = cluster.operator(&["pin", "--tenant", "demo", "--for", "1h", "--prompt", file]).unwrap();
    assert_eq!(
        (&pinned["blocks"], &pinned["held_blocks"], &pinned["pinned_blocks"]),
        (&json!(blocks), &json!(blocks), &json!(blocks))
    );
    // At once: a node waits until it knows of the pins that were granted before.
    let cleared = cluster.operator(&["clear", "--all", "--yes"]).unwrap();
    assert_eq!((over_nodes(&cleared, "pinned"), over_nodes(&cleared, "listed")), (blocks, blocks), "{cleared}");
    assert_eq!(held_by_nodes(&cluster.operator(&["lookup", "--prompt", file]).unwrap()), blocks);

    let pin = pinned["lease"].to_string();
    cluster.operator(&["unpin", &pin, "--yes"]).unwrap();
    assert_eq!(cluster.operator(&["pins"]).unwrap()["pins"], json!([]));
    let cleared = cluster.operator(&["clear", "--model", "sim-8b", "--yes"]).unwrap();
    assert_eq!(over_nodes(&cleared, "removed"), blocks, "{cleared}");
    assert_eq!((over_nodes(&cleared, "held"), over_nodes(&cleared, "listed")), (0, 0), "{cleared}");
    for node in ["21", "22"] {
        let (_, state) = get(&format!("http://{}.{node}:7411/state", cluster.subnet())).unwrap();
        let state: Value = serde_json::from_str(&state).unwrap();
        let held = state["arenas"].as_array().unwrap().iter().filter_map(|arena| arena["complete"].as_u64());
        assert_eq!(held.sum::<u64>(), 0, "the node itself: {state}");
    }
    assert_eq!(held_by_nodes(&cluster.operator(&["lookup", "--prompt", file]).unwrap()), 0);

    let audit = cluster.operator(&["metadata", "audit"]).unwrap();
    let asked: Vec<&str> =
        audit["entries"].as_array().unwrap().iter().filter_map(|entry| entry["what"].as_str()).collect();
    let expected = [
        "put tenant demo: weight 100, 100 lease blocks, quota unlimited, without a salt",
        "add key ci to tenant demo",
        "put sharing group docs, public prefixes none",
        "read the salt of sharing group docs",
        &format!("put sharing group docs, public prefixes system ({blocks} blocks)"),
        &format!("pin {blocks} blocks for tenant demo for 3600s"),
        "clear all blocks at node-1, node-2",
        &format!("release lease {pin}"),
        "clear all blocks of model sim-8b at node-1, node-2",
    ];
    assert_eq!(asked, expected);
    assert!(audit["entries"].as_array().unwrap().iter().all(|entry| entry["by"] == "admin/operator"));
}

#[test]
fn a_tenant_is_cleared_as_a_whole_and_a_host_that_is_gone_is_taken_off_the_list() {
    let mut cluster = Cluster::start(&[]).unwrap();
    let (text, file) = prompt(&cluster, 0);
    cluster.operator(&["tenant", "add", "acme", "--lease-blocks", "100"]).unwrap();
    cluster.operator(&["tenant", "add", "demo", "--unsalted"]).unwrap();
    let key = cluster.operator(&["tenant", "key", "add", "acme", "ci"]).unwrap()["secret"].as_str().unwrap().to_owned();
    let body = json!({ "model": "sim-8b", "prompt": text, "max_tokens": 1 });
    let completions = format!("{}/v1/completions", cluster.router());
    let served = |answer: (u16, Value)| (answer.0 == 200).then_some(());
    await_that("the router knows the key", || Ok(served(post_as(&completions, &key, &body)?))).unwrap();
    let found = |tenant: &str| {
        let found = cluster.operator(&["lookup", "--tenant", tenant, "--prompt", &file]).unwrap();
        held_by_nodes(&found)
    };
    let blocks = await_that("the prompt is found", || Ok(Some(found("acme")).filter(|blocks| *blocks > 0))).unwrap();
    let pinned = cluster.operator(&["pin", "--tenant", "acme", "--for", "1h", "--prompt", &file]).unwrap();
    assert_eq!(pinned["held_blocks"], json!(blocks));

    let refused = |args: &[&str]| cluster.operator(args).unwrap_err().to_string();
    let said = refused(&["clear", "--tenant", "acme", "--yes"]);
    assert!(said.contains("exit Some(77)") && said.contains("has 1 pin"), "{said}");
    let said = refused(&["clear", "--tenant", "demo", "--yes"]);
    assert!(said.contains("tenant demo has no salt"), "{said}");
    let said = refused(&["clear", "--tenant", "acme", "--node", "node-1", "--yes"]);
    assert!(said.contains("cleared as a whole"), "{said}");
    let cleared = cluster.operator(&["clear", "--tenant", "acme", "--force", "--yes"]).unwrap();
    assert_eq!(cleared, json!({ "tenant": "acme", "pins_ended": 1 }));
    assert_eq!(found("acme"), 0, "no node is asked under the old salt any more");
    assert_eq!(cluster.operator(&["pins"]).unwrap()["pins"], json!([]));
    // The key still is the tenant's.
    await_that("the prompt is computed again", || Ok(served(post_as(&completions, &key, &body)?))).unwrap();
    await_that("and found again", || Ok((found("acme") == blocks).then_some(()))).unwrap();

    let remove = ["metadata", "node", "remove", "node-2", "--yes"];
    let said = refused(&remove);
    assert!(said.contains("exit Some(77)") && said.contains("node node-2 may be alive"), "{said}");
    cluster.kill_and_wait("node-2").unwrap();
    let removed = await_that("its lease has run out", || Ok(cluster.operator(&remove).ok())).unwrap();
    assert_eq!(removed["endpoints"], json!(["engine-2", "engine-4"]), "{removed}");
    let status = cluster.status().unwrap();
    let names = |of: &str| status[of].as_array().unwrap().iter().map(|one| one["id"].clone()).collect::<Vec<_>>();
    assert_eq!(
        (names("nodes"), names("endpoints")),
        (vec![json!("node-1")], vec![json!("engine-1"), json!("engine-3")])
    );
    let again = cluster.operator(&remove).unwrap();
    assert_eq!(again, json!({ "node": "node-2", "removed": false, "endpoints": [] }));
    let audit = cluster.operator(&["metadata", "audit", "--last", "2"]).unwrap();
    for entry in audit["entries"].as_array().unwrap() {
        assert_eq!(entry["what"], "remove node node-2 and the endpoints at it");
        assert_eq!(entry["outcome"], json!({ "done": true }));
    }
}
