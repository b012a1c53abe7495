//! This host: its GPUs, and what the kernel allows.

use std::fs;

use rustix::process::{Resource, getrlimit};
use weft_gpu::{Absent, Found, look as look_for_gpu};

use super::finding::Finding;

/// Socket buffer that block streams ask for; see `weft_transport::Profile`.
const SOCKET_BYTES: u64 = 8 << 20;

/// Everything about it.
pub(super) async fn look() -> Vec<Finding> {
    let gpu = tokio::task::spawn_blocking(look_for_gpu).await;
    let found = gpu.as_ref().is_ok_and(Result::is_ok);
    let gpu = gpu.map_or_else(|error| Finding::broken("gpu", error.to_string(), "run nvidia-smi"), |gpu| of_gpu(&gpu));
    let buffers = ["net.core.rmem_max", "net.core.wmem_max"].map(|name| of_buffer(name, sysctl(name)));
    let mut findings = vec![gpu];
    findings.extend(buffers);
    findings.push(of_locked_memory(found, getrlimit(Resource::Memlock).current));
    findings
}

fn of_gpu(looked: &Result<Found, Absent>) -> Finding {
    match looked {
        Ok(found) => Finding::well("gpu", found.to_string()),
        // None is needed: engines have them, and most of weft runs where there is none.
        Err(absent @ (Absent::Driver | Absent::Device)) => Finding::skipped("gpu", absent.to_string()),
        Err(absent) => Finding::broken(
            "gpu",
            absent.to_string(),
            "update the driver, or have nvidia-smi say what is wrong with it",
        ),
    }
}

fn of_buffer(name: &str, bytes: Option<u64>) -> Finding {
    match bytes {
        Some(bytes) if bytes >= SOCKET_BYTES => Finding::well(name, format!("{bytes} bytes")),
        Some(bytes) => Finding::poor(
            name,
            format!("{bytes} bytes: bursts of block streams are lost"),
            format!("sysctl -w {name}={SOCKET_BYTES}, on the host and for good in /etc/sysctl.d"),
        ),
        None => Finding::skipped(name, "not to be seen from here: containers have no view of it"),
    }
}

fn of_locked_memory(gpu: bool, limit: Option<u64>) -> Finding {
    let of = "locked memory";
    match (gpu, limit) {
        (_, None) => Finding::well(of, "no limit"),
        (true, Some(bytes)) => Finding::poor(
            of,
            format!("at most {bytes} bytes: a driver that counts them may refuse to pin the arena"),
            "ulimit -l unlimited, or LimitMEMLOCK=infinity in the unit, if the log says that the arena is not pinned",
        ),
        (false, Some(bytes)) => Finding::skipped(of, format!("at most {bytes} bytes; nothing is locked without a GPU")),
    }
}

fn sysctl(name: &str) -> Option<u64> {
    fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn small_buffers_are_poor_and_no_gpu_is_no_fault() {
        assert_eq!(of_buffer("net.core.rmem_max", Some(212_992)).state, State::Poor);
        assert_eq!(of_buffer("net.core.rmem_max", Some(8 << 20)).state, State::Well);
        assert_eq!(of_gpu(&Err(Absent::Driver)).state, State::Skipped);
        assert_eq!(of_gpu(&Err(Absent::Call("cuInit"))).state, State::Broken);
        assert_eq!(of_locked_memory(true, Some(64 << 10)).state, State::Poor);
        assert_eq!(of_locked_memory(false, Some(64 << 10)).state, State::Skipped);
    }
}
