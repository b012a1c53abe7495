//! What a router says of a request, for people.

use std::fmt::Write;

use serde_json::Value;

use crate::table::Table;

/// As lines and a table. What the router left out is left out.
pub(super) fn text(explained: &Value) -> String {
    let mut out = String::new();
    let tenant = explained["tenant"].as_str().map(|tenant| format!(" of tenant {tenant}")).unwrap_or_default();
    let counted = if explained["prompt"]["counted"] == true { "" } else { ", guessed from its size" };
    let _ = writeln!(
        out,
        "request {}{tenant}, {} ago: {}, {} prompt tokens{counted}",
        word(&explained["request"]),
        seconds(&explained["age_seconds"]),
        word(&explained["model"]),
        word(&explained["prompt"]["tokens"]),
    );
    match &explained["index_age_seconds"] {
        Value::Null => out.push_str("no index was asked: what was sent where stands for it\n"),
        age => _ = writeln!(out, "the index had been heard from {} before", seconds(age)),
    }
    for attempt in explained["attempts"].as_array().into_iter().flatten() {
        let _ = write!(out, "\n{}", table(attempt));
        if let Some(count) = attempt["left_out"].as_u64().filter(|count| *count > 0) {
            let _ = writeln!(out, "and {count} more that cost as much or more");
        }
        if let Some(failed) = attempt["failed"].as_str() {
            let _ = writeln!(out, "it failed: {failed}");
        }
    }
    let (predicted, happened) = (&explained["predicted"], &explained["happened"]);
    let mut outcome = Table::new(&["", "not computed", "first token"]);
    for (name, of) in [("predicted", predicted), ("happened", happened)] {
        outcome.row([name.to_owned(), word(&of["hit_tokens"]), seconds(&of["ttft_seconds"])]);
    }
    let _ = write!(out, "\n{outcome}");
    match happened["outcome"].as_str() {
        Some(ended) => _ = writeln!(out, "{ended} after {}", seconds(&happened["seconds"])),
        None => out.push_str("under way still\n"),
    }
    for (number, miss) in explained["missed"].as_array().into_iter().flatten().enumerate() {
        let head = if number == 0 { "\nnot reused because\n" } else { "" };
        let _ = writeln!(out, "{head}  {}: {}", word(&miss["reason"]), word(&miss["says"]));
    }
    out
}

fn table(attempt: &Value) -> Table {
    let mut table = Table::new(&[
        "",
        "endpoint",
        "in flight",
        "device",
        "node",
        "peer",
        "source",
        "computed",
        "wait",
        "fetch",
        "prefill",
        "cost",
    ]);
    let picked = std::iter::once(("picked", &attempt["picked"]));
    let others = attempt["others"].as_array().into_iter().flatten().map(|other| ("", other));
    for (mark, one) in picked.chain(others) {
        let (overlap, terms) = (&one["overlap"], &one["terms"]);
        table.row([
            mark.to_owned(),
            word(&one["endpoint"]),
            word(&one["in_flight"]),
            word(&overlap["device_tokens"]),
            word(&overlap["local_tokens"]),
            word(&overlap["peer_tokens"]),
            word(&terms["source"]),
            word(&terms["computed_tokens"]),
            seconds(&terms["wait_seconds"]),
            seconds(&terms["fetch_seconds"]),
            seconds(&terms["prefill_seconds"]),
            seconds(&terms["cost_seconds"]),
        ]);
    }
    table
}

fn word(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn seconds(value: &Value) -> String {
    match value.as_f64() {
        None => "-".to_owned(),
        Some(seconds) if seconds < 1.0 => format!("{:.1} ms", seconds * 1e3),
        Some(seconds) => format!("{seconds:.1} s"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_known_is_a_dash_and_the_picked_one_comes_first() {
        let one = |name: &str, cost: f64| {
            json!({
                "endpoint": name, "in_flight": 2, "peer": null,
                "overlap": {"device_tokens": 64, "local_tokens": 128, "peer_tokens": 0},
                "terms": {"source": "local", "computed_tokens": 172, "wait_seconds": 0.0, "fetch_seconds": 0.002,
                          "prefill_seconds": 0.01, "cost_seconds": cost},
            })
        };
        let explained = json!({
            "request": "0af3", "age_seconds": 61.2, "model": "m", "tenant": "acme",
            "prompt": {"tokens": 300, "counted": true}, "index_age_seconds": 0.1,
            "attempts": [{"picked": one("e2", 0.0123), "others": [one("e1", 0.5)], "left_out": 3, "failed": "refused"}],
            "predicted": {"ttft_seconds": 0.0123, "hit_tokens": 128},
            "happened": {"ttft_seconds": null, "hit_tokens": null, "outcome": "answered", "seconds": 0.2},
            "missed": [{"reason": "never-stored", "says": "nobody asked"}],
        });
        let text = text(&explained);
        for expected in [
            "request 0af3 of tenant acme, 61.2 s ago: m, 300 prompt tokens\n",
            "picked  e2",
            "12.3 ms\n        e1",
            "and 3 more",
            "it failed: refused",
            "happened              -            -",
            "answered after 200.0 ms",
            "not reused because\n  never-stored: nobody asked",
        ] {
            assert!(text.contains(expected), "{expected:?} in\n{text}");
        }
    }
}
