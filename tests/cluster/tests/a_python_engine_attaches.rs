//! The Python module over the node client, against real nodes: what `connectors/tests` says, run by the interpreter of this
//! host. Nothing is installed: the package is put together of its sources and the library that cargo has built.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use weft_cluster_tests::{Cluster, python_module};
use weft_gpu_driver::stage::Stage;

/// The stable interface that the module is built against begins here.
const PYTHON_MIN: &str = "import sys; sys.exit(sys.version_info < (3, 11))";

#[test]
fn a_python_engine_stores_and_loads() {
    if !Command::new("python3").args(["-c", PYTHON_MIN]).status().is_ok_and(|status| status.success()) {
        eprintln!("not run: no python3 of version 3.11 or later on the path");
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
    let package = tempfile::tempdir().unwrap();
    let inside = package.path().join("weft_kv");
    std::fs::create_dir(&inside).unwrap();
    symlink(root.join("connectors/weft_kv/__init__.py"), inside.join("__init__.py")).unwrap();
    symlink(python_module(), inside.join("_native.abi3.so")).unwrap();

    // Room for the contracts of the simulated engines and of the tests.
    let cluster = Cluster::start(&["--host-memory", "256MiB", "--contract-memory", "32MiB"]).unwrap();
    let sockets = [1, 2].map(|node| cluster.socket(node).into_os_string().into_string().unwrap()).join(",");
    let gpu = Stage::set();
    for tests in ["test_client.py", "test_fingerprint.py", "test_gpu.py"] {
        let mut python = Command::new("python3");
        if tests == "test_gpu.py" {
            gpu.put(&mut python);
        }
        let ended = python
            .arg(root.join("connectors/tests").join(tests))
            .env("PYTHONPATH", package.path())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("WEFT_TEST_SOCKETS", &sockets)
            .env("WEFT_TEST_VECTORS", root.join("types/tests/data/block_hash.json"))
            .status()
            .unwrap();
        assert!(ended.success(), "{tests}: see what Python printed");
    }
}
