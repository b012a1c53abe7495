//! Machines without a GPU, or with one that cannot be used.

use std::os::unix::fs::symlink;
use std::process::Command;

use weft_gpu::{Absent, Gpu, GpuError, look};
use weft_gpu_driver::control::Control;
use weft_gpu_driver::stage::on_stage;

/// Which of the library path's drivers the process below has.
const HAS: &str = "WEFT_GPU_TEST_DRIVER";

#[test]
fn a_machine_without_a_driver_or_with_an_old_one_says_so() {
    if std::env::var_os(HAS).is_some() {
        // A library of this name, which is no driver: the first call is missing.
        assert_eq!(look(), Err(Absent::Call("cuInit")));
        assert!(matches!(Gpu::open(0), Err(GpuError::Absent(Absent::Call(_)))));
        return;
    }
    match look() {
        // On a machine with a GPU this one is found.
        Ok(found) => assert!(!found.devices.is_empty()),
        Err(absent) => assert!(absent.to_string().contains("driver"), "{absent}"),
    }
    let folder = tempfile::tempdir().unwrap();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let libc = maps.lines().filter_map(|line| line.split_whitespace().last()).find(|path| path.contains("/libc.so"));
    symlink(libc.expect("a C library"), folder.path().join("libcuda.so")).unwrap();
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["absent::a_machine_without_a_driver_or_with_an_old_one_says_so", "--exact"]);
    let ended = again.env("LD_LIBRARY_PATH", folder.path()).env(HAS, "old").output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stdout));
}

#[test]
fn what_is_found_is_told() {
    on_stage("absent::what_is_found_is_told", || {
        let found = look().unwrap();
        assert_eq!((found.version, found.batches, found.devices.len()), (12_080, true, 2));
        assert_eq!(
            found.to_string(),
            "CUDA 12.8, batched copies; device 0: weft stand-in (host memory, no GPU), 1024 MiB; \
             device 1: weft stand-in (host memory, no GPU), 1024 MiB"
        );
        let uuid = found.devices[1].uuid;
        assert_eq!(uuid.to_string(), "GPU-cdcdcdcd-cdcd-cdcd-cdcd-cdcdcdcdcd01");
        assert_eq!(Gpu::with_uuid(uuid).unwrap().found().ordinal, 1);
        assert!(matches!(Gpu::open(7), Err(GpuError::Absent(Absent::Wanted(_)))));

        let control = Control::of_this_process();
        control.pretend(12_040, 1, false);
        assert!(!look().unwrap().batches);
        control.pretend(12_080, 0, true);
        assert_eq!(look(), Err(Absent::Device));
        control.fail("cuInit", 1, 999);
        assert!(matches!(look(), Err(Absent::Refused(_))));
        assert_eq!(control.alive().contexts, 0);
    });
}
