//! The node's unix socket: where it lies, and who may connect.

use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

use crate::PeerProcess;

/// Who may connect, by the user the kernel says it is: ours, root, and those listed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SocketPolicy {
    /// Further users. When there are any, the socket's file modes let everybody knock, and this list decides.
    pub allow_uids: Vec<u32>,
}

/// Why the socket could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Another daemon answers on it.
    #[error("{path} is served by another process: stop it, or give this node a socket of its own", path = .path.display())]
    InUse {
        /// Which socket.
        path: PathBuf,
    },
    /// The file system said no.
    #[error("cannot {operation} {path}: {source}", path = .path.display())]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl SocketPolicy {
    /// Whether this process may attach.
    #[must_use]
    pub fn admits(&self, peer: &PeerProcess) -> bool {
        let own = rustix::process::geteuid().as_raw();
        peer.uid == own || peer.uid == 0 || self.allow_uids.contains(&peer.uid)
    }

    fn modes(&self) -> (u32, u32) {
        if self.allow_uids.is_empty() { (0o700, 0o600) } else { (0o711, 0o666) }
    }
}

/// Binds the socket. A directory that is missing is made, with mode 0700; a socket that a dead daemon left is replaced.
///
/// # Errors
/// Another process serves it, or the file system says no.
pub async fn listen(path: &Path, policy: &SocketPolicy) -> Result<UnixListener, ListenError> {
    let failed = |operation| move |source| ListenError::Io { operation, path: path.to_owned(), source };
    let (directory_mode, socket_mode) = policy.modes();
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(directory_mode).create(directory).map_err(failed("make the directory of"))?;
    }
    match UnixStream::connect(path).await {
        Ok(_) => return Err(ListenError::InUse { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(failed("replace the stale socket"))?;
        }
        Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(failed("bind"))?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(socket_mode)).map_err(failed("set the mode of"))?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/node.sock");
        let policy = SocketPolicy::default();
        let listener = listen(&path, &policy).await.unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(path.parent().unwrap()), mode(&path)), (0o700, 0o600));
        assert!(matches!(listen(&path, &policy).await, Err(ListenError::InUse { .. })));
        drop(listener);
        // A process that another test started holds on to all we had open, until it is the program it was started as.
        while let Err(error) = listen(&path, &policy).await {
            assert!(matches!(error, ListenError::InUse { .. }), "{error}");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn only_our_own_user_root_and_those_listed_are_admitted() {
        let (here, _there) = UnixStream::pair().unwrap();
        let mut peer = PeerProcess::of(&here).unwrap();
        assert!(SocketPolicy::default().admits(&peer));
        peer.uid = 4_000_000;
        assert!(!SocketPolicy::default().admits(&peer));
        assert!(SocketPolicy { allow_uids: vec![4_000_000] }.admits(&peer));
    }
}
