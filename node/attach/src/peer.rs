//! The process at the other end of the unix socket: who it is, and when it is gone.

use std::io;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;

/// Who connected, by the kernel's word (`SO_PEERCRED`).
#[derive(Debug)]
pub struct PeerProcess {
    /// User it runs as.
    pub uid: u32,
    /// Its process number here; `None` when it lives in a pid namespace that we cannot see.
    pub pid: Option<i32>,
    pidfd: Option<OwnedFd>,
}

impl PeerProcess {
    /// Asks the kernel who connected.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn of(stream: &UnixStream) -> io::Result<Self> {
        let credentials = stream.peer_cred()?;
        let pid = credentials.pid().filter(|pid| *pid > 0);
        // Opened while the connection is up, and so, almost surely, its process: later the number may be another's.
        let pidfd = pid.and_then(Pid::from_raw).and_then(|pid| pidfd_open(pid, PidfdFlags::NONBLOCK).ok());
        Ok(Self { uid: credentials.uid(), pid, pidfd })
    }

    /// Whether [`PeerProcess::exited`] can know.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.pidfd.is_some()
    }

    /// Resolves when the process has exited, with all its threads and so with all its DMA.
    ///
    /// Processes that it forked share its copy of the socket: the connection ends only when the last of them closes it.
    ///
    /// # Errors
    /// The process cannot be watched from here.
    pub async fn exited(self) -> io::Result<()> {
        let pidfd = self.pidfd.ok_or(io::ErrorKind::Unsupported)?;
        // SAFETY: the descriptor is owned by the AsyncFd from here on, and stays open and the same until it is dropped.
        let pidfd = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }?;
        // A pidfd becomes readable when its process exits.
        pidfd.readable().await?.retain_ready();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_other_side_of_a_pair_is_this_process() {
        let (here, _there) = UnixStream::pair().unwrap();
        let peer = PeerProcess::of(&here).unwrap();
        assert_eq!(peer.uid, rustix::process::getuid().as_raw());
        assert_eq!(peer.pid, i32::try_from(std::process::id()).ok());
        assert!(peer.is_watched());
    }

    #[tokio::test]
    async fn an_exit_is_seen() {
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        let pidfd = pidfd_open(pid, PidfdFlags::NONBLOCK).unwrap();
        let peer = PeerProcess { uid: 0, pid: Some(pid.as_raw_nonzero().get()), pidfd: Some(pidfd) };
        let exited = tokio::spawn(peer.exited());
        tokio::task::yield_now().await;
        assert!(!exited.is_finished());
        drop(child.stdin.take());
        exited.await.unwrap().unwrap();
        child.wait().unwrap();
    }
}
