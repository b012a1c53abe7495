//! Certificates that are replaced on disk while the process runs.
//!
//! Files are looked at, not watched: a Secret that Kubernetes mounts is swapped by a symbolic link, and network file systems
//! tell nobody. What a look costs is three calls of `stat`.

use std::error::Error;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use tracing::warn;

use crate::config::{IdentityFiles, IdentityPem};
use crate::run::chain;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks in a row that find files which do not belong together before anybody is told: the three are written one after another.
const LOOKS_BEFORE_WARNING: u32 = 3;

/// Device, inode, time of change (seconds, nanoseconds) and length of each file; `None`: it is not there.
type Seen = [Option<(u64, u64, i64, i64, u64)>; 3];

impl IdentityFiles {
    /// Gives the files to `take` whenever they have changed, until dropped. Files that it does not take are tried again at
    /// every look, and it is warned of once.
    pub async fn follow<E: Error + 'static>(self, mut take: impl FnMut(&IdentityPem) -> Result<(), E>) {
        let mut taken = self.look();
        let mut failures = 0;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = self.look();
            if now == taken {
                continue;
            }
            let outcome = match self.read() {
                Ok(pem) => take(&pem).map_err(|error| chain(&error)),
                Err(error) => Err(chain(&error)),
            };
            match outcome {
                Ok(()) => (taken, failures) = (now, 0),
                Err(reason) => {
                    failures += 1;
                    if failures == LOOKS_BEFORE_WARNING {
                        warn!(cert = %self.cert.display(), "the new certificate is not taken up, the one in use stays: {reason}");
                    }
                }
            }
        }
    }

    fn look(&self) -> Seen {
        [&self.cert, &self.key, &self.ca].map(|path| {
            let seen = std::fs::metadata(path).ok()?;
            Some((seen.dev(), seen.ino(), seen.ctime(), seen.ctime_nsec(), seen.len()))
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("not this one")]
    struct NotThisOne;

    #[tokio::test]
    async fn files_are_given_when_they_change_and_again_until_they_are_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["cert", "key", "ca"] {
            std::fs::write(path(name), "old").unwrap();
        }
        let files = IdentityFiles { cert: path("cert"), key: path("key"), ca: path("ca") };
        let (gave, mut given) = mpsc::channel(64);
        let following = tokio::spawn(files.follow(move |pem| {
            let _ = gave.try_send((pem.cert.clone(), pem.key.clone()));
            if pem.cert == pem.key { Ok(()) } else { Err(NotThisOne) }
        }));
        tokio::task::yield_now().await;
        std::fs::write(path("key"), "new").unwrap();
        let pair = |cert: &str, key: &str| Some((cert.to_owned(), key.to_owned()));
        assert_eq!(given.recv().await, pair("old", "new"));
        assert_eq!(given.recv().await, pair("old", "new"), "what was not taken is given again");
        // Replaced as `weft certs issue` does it.
        std::fs::write(path("cert.partial"), "new").unwrap();
        std::fs::rename(path("cert.partial"), path("cert")).unwrap();
        while given.recv().await != pair("new", "new") {}
        std::fs::write(path("ca"), "another").unwrap();
        assert_eq!(given.recv().await, pair("new", "new"), "what was taken is given once, and when it changes");
        following.abort();
    }
}
