//! Checks on the repository itself: the arrows between crates, the shape of files, the links in the documentation.
//!
//! Everything is under `tests/`; this file only finds the repository.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Root of the repository.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Every file that git tracks or would track, relative to [`root`].
///
/// # Panics
/// When git does not answer: then nothing was checked.
#[must_use]
pub fn files() -> Vec<PathBuf> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git is installed");
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let listed = String::from_utf8(listed.stdout).expect("file names are UTF-8");
    let files: Vec<_> = listed.lines().map(PathBuf::from).filter(|file| root().join(file).exists()).collect();
    assert!(files.len() > 50, "git lists {} files only", files.len());
    files
}
