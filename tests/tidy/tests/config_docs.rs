//! `docs/config.md` is made from the doc comments of the configuration structs, so that it cannot drift from them.
//!
//! After a change: `WRITE_CONFIG_DOCS=1 cargo test -p weft-tidy --test config_docs`.
#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;

/// Subcommand, the files its structs are in, and the outermost one.
const ROLES: &[(&str, &[&str])] = &[
    ("metadata", &["metadata/src/config.rs"]),
    ("node", &["node/src/config.rs", "node/src/resp/config.rs"]),
    (
        "router",
        &[
            "router/src/config.rs",
            "router/src/callers/config.rs",
            "router/src/admission/config.rs",
            "router/src/ext_proc.rs",
            "router/policy/src/rate.rs",
        ],
    ),
    ("engine-sim", &["weft/engine-sim/src/config.rs", "weft/engine-sim/src/pace.rs"]),
];

const HEAD: &str = "# Configuration\n\n\
    A TOML file (`--config`), then `WEFT_*` environment, then `--set key=value`; the later wins. `raft.heartbeat` in the file's\n\
    words is `WEFT_RAFT__HEARTBEAT` in the environment and `--set raft.heartbeat=…` on the command line. Unknown keys are refused.\n\
    Sizes and durations have units: `64GiB`, `250ms`. Every role also has `[log]` with `level` (a filter such as\n\
    `info,weft_node=debug`; default `info`) and `format` (`text` or `json`).\n\n\
    This page is made from the code; `tests/tidy/tests/config_docs.rs` says how.\n";

#[derive(Debug)]
struct Field {
    name: String,
    kind: String,
    doc: String,
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a switch for the developer, not configuration")]
fn config_docs_are_those_of_the_code() {
    let mut text = HEAD.to_owned();
    for (role, files) in ROLES {
        let source: String =
            files.iter().map(|file| fs::read_to_string(weft_tidy::root().join(file)).unwrap()).collect();
        let structs = structs(&source);
        assert!(structs.contains_key("Config"), "{files:?} define no struct Config");
        write!(text, "\n## weft {role}\n").unwrap();
        section(&mut text, &structs, "Config", "");
    }
    let path = weft_tidy::root().join("docs/config.md");
    if std::env::var("WRITE_CONFIG_DOCS").is_ok() {
        fs::write(&path, &text).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == text, "docs/config.md is behind the code: see the top of this test");
}

/// One table, then those of the structs in it.
fn section(text: &mut String, structs: &BTreeMap<String, Vec<Field>>, name: &str, prefix: &str) {
    let heading = if prefix.is_empty() { String::new() } else { format!("\n### `{prefix}`\n") };
    write!(text, "{heading}\n| key | meaning |\n|---|---|\n").unwrap();
    let inner = |field: &Field| {
        let bare = field.kind.trim_start_matches("Vec<").trim_start_matches("Option<").trim_end_matches('>');
        structs.contains_key(bare).then(|| bare.to_owned())
    };
    for Field { name, doc, .. } in &structs[name] {
        writeln!(text, "| `{name}` | {doc} |").unwrap();
    }
    for field in &structs[name] {
        if let Some(inner) = inner(field) {
            let list = if field.kind.starts_with("Vec") { "[]" } else { "" };
            let dot = if prefix.is_empty() { "" } else { "." };
            section(text, structs, &inner, &format!("{prefix}{dot}{}{list}", field.name));
        }
    }
}

/// Public structs with their public fields and their doc comments.
fn structs(source: &str) -> BTreeMap<String, Vec<Field>> {
    let mut structs = BTreeMap::new();
    let mut current: Option<(String, Vec<Field>)> = None;
    let mut doc = String::new();
    for line in source.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("pub struct ").and_then(|rest| rest.strip_suffix(" {")) {
            current = Some((name.to_owned(), Vec::new()));
            doc.clear();
        } else if let Some(said) = line.strip_prefix("///") {
            doc.push_str(said);
        } else if line == "}" {
            structs.extend(current.take());
        } else if let Some((name, kind)) = line.strip_prefix("pub ").and_then(|rest| rest.split_once(": "))
            && let Some((_, fields)) = &mut current
        {
            let doc = std::mem::take(&mut doc).trim().replace('|', "\\|");
            assert!(!doc.is_empty(), "{name} has no doc");
            fields.push(Field { name: name.to_owned(), kind: kind.trim_end_matches(',').to_owned(), doc });
        }
    }
    structs
}
