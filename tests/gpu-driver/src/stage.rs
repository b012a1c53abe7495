//! How a test gets the stand-in loaded: it runs itself again, with the stand-in on its library path.

use std::env;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Set in the process that runs on stage.
const ON_STAGE: &str = "WEFT_GPU_STAND_IN";

/// A folder in which the stand-in lies under the driver's name.
#[derive(Debug)]
pub struct Stage {
    folder: TempDir,
}

impl Stage {
    /// Beside the library that cargo has built.
    ///
    /// # Panics
    /// When it has not.
    #[must_use]
    pub fn set() -> Self {
        let library = library();
        let folder = tempfile::tempdir().unwrap();
        for name in ["libcuda.so", "libcuda.so.1"] {
            symlink(&library, folder.path().join(name)).unwrap();
        }
        Self { folder }
    }

    /// What `LD_LIBRARY_PATH` must name.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Has a process load the stand-in.
    pub fn put<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("LD_LIBRARY_PATH", self.path()).env(ON_STAGE, "1")
    }
}

/// Runs a test of this name in a process of its own that loads the stand-in; there, `act`.
///
/// # Panics
/// When it fails there.
pub fn on_stage(test: &str, act: impl FnOnce()) {
    if env::var_os(ON_STAGE).is_some() {
        return act();
    }
    let stage = Stage::set();
    let mut command = Command::new(env::current_exe().unwrap());
    let ended = stage.put(command.args([test, "--exact", "--nocapture"])).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    let errors = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success() && said.contains("1 passed"), "with the stand-in: {}\n{said}{errors}", ended.status);
}

/// Beside the test, or one up: where cargo puts it.
fn library() -> PathBuf {
    let own = env::current_exe().unwrap();
    let places = own.ancestors().skip(1).take(2).flat_map(|folder| [folder.to_owned(), folder.join("deps")]);
    let mut files = places.map(|folder| folder.join("libweft_gpu_driver.so"));
    files.find(|file| file.is_file()).expect("libweft_gpu_driver.so beside the test: build weft-gpu-driver")
}
