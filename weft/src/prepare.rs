//! `weft prepare`: directories of the host for a daemon that is nobody there. Kubernetes makes host paths root's, whoever the
//! pod runs as, and our image has no shell to change that with.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;

use anyhow::Context;

/// Entries only their user may list, and anybody may pass through to a socket whose own mode and list decide.
const MODE: u32 = 0o711;

/// Which directories, and whose.
#[derive(Debug, clap::Args)]
pub(crate) struct PrepareArgs {
    /// Number of the user, and of its group.
    #[arg(long)]
    uid: u32,
    /// Directories; made if they are not there. What is in them is not touched.
    #[arg(required = true)]
    directories: Vec<PathBuf>,
}

/// Makes them and gives them away.
pub(crate) fn run(args: &PrepareArgs) -> anyhow::Result<()> {
    for directory in &args.directories {
        let prepare = || {
            fs::create_dir_all(directory)?;
            fs::set_permissions(directory, fs::Permissions::from_mode(MODE))?;
            chown(directory, Some(args.uid), Some(args.uid))
        };
        prepare().with_context(|| {
            format!("cannot give {} to user {}: this has to run as root", directory.display(), args.uid)
        })?;
        println!("{} is user {}'s", directory.display(), args.uid);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_directory_is_made_and_can_be_passed_through() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("run/weft");
        let uid = rustix::process::geteuid().as_raw();
        for _ in 0..2 {
            run(&PrepareArgs { uid, directories: vec![directory.clone()] }).unwrap();
        }
        let found = fs::metadata(&directory).unwrap();
        assert_eq!((found.uid(), found.mode() & 0o777), (uid, MODE));
    }
}
