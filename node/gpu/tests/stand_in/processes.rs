//! An engine in one process, who copies in another: memory and order go across, and what was opened is closed.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use weft_attach::SharedCache;
use weft_gpu::{Copier, ipc};
use weft_gpu_driver::control::{Alive, Control};
use weft_gpu_driver::stage::on_stage;
use weft_types::codec;

use crate::engine::{Engine, PAGE_BYTES, ROW_BYTES, block, row, value};
use crate::faults::walk;

/// Set in the process that plays the node.
const NODE: &str = "WEFT_GPU_TEST_NODE";
const NAME: &str = "processes::a_node_copies_from_and_to_an_engine_in_another_process";

#[test]
fn a_node_copies_from_and_to_an_engine_in_another_process() {
    if std::env::var_os(NODE).is_some() {
        return node();
    }
    on_stage(NAME, engine);
}

fn engine() {
    let engine = Engine::new().unwrap();
    let ready = ipc::Ready::new(&engine.gpu).unwrap();
    let shared = ipc::export(&engine.cache().unwrap(), &ready).unwrap();
    assert_eq!((shared.allocations.len(), shared.layers.len()), (3, 3));
    let mut node = Command::new(std::env::current_exe().unwrap());
    node.args([NAME, "--exact", "--nocapture"]).env(NODE, "1").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut node = node.spawn().unwrap();
    let mut said = BufReader::new(node.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut to_node = node.stdin.take().unwrap();
    let mut until = |word: &str| assert!(said.by_ref().any(|line| line.ends_with(word)), "{word}");

    // Nothing of this is computed before somebody needs it: the node, in the other process.
    engine.compute(0, 3, 42).unwrap();
    ready.record_on(engine.stream()).unwrap();
    writeln!(to_node, "{}", hex(&codec::encode(&shared))).unwrap();
    until("stored");
    until("loaded");
    assert_eq!(engine.page(2, 8).unwrap(), [value(1, 2, 1); PAGE_BYTES]);
    drop(to_node);
    assert!(node.wait().unwrap().success());
}

fn node() {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let shared: SharedCache = codec::decode(&unhex(line.trim())).unwrap();
    let (cache, ready) = ipc::open(&shared).unwrap();
    let control = Control::of_this_process();
    assert_eq!(control.alive().opened, 3);
    let copier = Copier::new(cache).unwrap();
    let mut bytes = vec![0; ROW_BYTES];
    // The twin: what is in the page before the engine has computed it.
    copier.store(&mut [(row([3, 4]), &mut bytes)], None).unwrap();
    assert_eq!(bytes[..PAGE_BYTES], [0; PAGE_BYTES]);
    copier.store(&mut [(row([3, 4]), &mut bytes)], Some(ready.as_engine())).unwrap();
    assert_eq!(bytes[..PAGE_BYTES], [42; PAGE_BYTES]);
    say("stored");
    copier.load(vec![(row([7, 8]), block(1))], Some(ready.as_engine())).unwrap().wait().unwrap();
    say("loaded");
    drop((copier, ready));
    walk(&control, || {
        let (cache, ready) = ipc::open(&shared)?;
        let copier = Copier::new(cache)?;
        let mut bytes = vec![0; ROW_BYTES];
        copier.store(&mut [(row([3, 4]), &mut bytes)], Some(ready.as_engine()))?;
        assert_eq!(bytes[..PAGE_BYTES], [42; PAGE_BYTES]);
        Ok(())
    });
    let left = control.alive();
    assert_eq!(left, Alive { batches: left.batches, ..Alive::default() });
    // The engine goes first.
    assert_eq!(std::io::stdin().read_line(&mut line).unwrap(), 0);
}

/// To the engine: one line, past what the test harness keeps to itself.
fn say(word: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "{word}").unwrap();
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}
