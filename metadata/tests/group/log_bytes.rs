//! The log on disk stays within what is configured, however much is written, and whoever was away meanwhile gets a snapshot.

use weft_index::{Change, Report, ReportForm};
use weft_types::{ByteSize, Role};

use crate::cluster::{Cluster, key, keys};

const SEGMENT: ByteSize = ByteSize::from_bytes(64 << 10);
const SNAPSHOT_EVERY: ByteSize = ByteSize::from_bytes(256 << 10);
const KEEP: ByteSize = ByteSize::from_bytes(128 << 10);

/// Blocks that come and go: about 64 KiB of changes a report.
const BLOCKS: u64 = 3_600;

/// An entry may be longer than a segment, and then has one of its own length.
const ENTRY_BYTES_MAX: u64 = 96 << 10;

/// What the log may take once nothing is written: what is kept and an entry over, what calls for no snapshot yet and an entry
/// over, and a segment at each end of which only a part is in use.
const BOUND: u64 = KEEP.bytes() + SNAPSHOT_EVERY.bytes() + 4 * ENTRY_BYTES_MAX;

const ROUNDS: u64 = 5;
const REPORTS_A_ROUND: u64 = 16;

#[tokio::test(flavor = "multi_thread")]
async fn the_log_on_disk_stays_bounded_and_who_was_away_gets_a_snapshot() {
    let mut cluster = Cluster::start(|config| {
        config.wal.segment = SEGMENT;
        config.wal.memory = SEGMENT;
        config.snapshot.bytes = SNAPSHOT_EVERY;
        config.snapshot.keep = KEEP;
    })
    .await;
    let node = cluster.caller(Role::Node, "n1");
    let grant = node.join("n1", 1).await;
    let away = cluster.follower().await;
    cluster.kill(away).await;
    let present: Vec<u64> = (1..=3).filter(|member| *member != away).collect();

    let mut number = 0;
    for _ in 0..ROUNDS {
        for _ in 0..REPORTS_A_ROUND {
            number += 1;
            // The last report stores.
            let change = if number % 2 == 0 { Change::Stored } else { Change::Removed };
            let report = Report {
                holder: grant.holder,
                generation: grant.generation,
                incarnation: grant.incarnation,
                number,
                form: ReportForm::default(),
                changes: (1..=BLOCKS).map(|block| change(key(block))).collect(),
            };
            node.report(vec![report]).await;
        }
        for member in &present {
            cluster.wait_until(*member, |cluster| log_bytes(cluster, *member) <= BOUND).await;
        }
    }
    for member in &present {
        let written = cluster.metric(*member, "weft_metadata_log_bytes_total");
        assert!(written > 5.0 * BOUND as f64, "only {written} bytes were written: that shows nothing");
    }

    cluster.run(away).await;
    node.wait_for(away, &keys(BLOCKS)).await;
    assert!(cluster.metric(away, "weft_metadata_snapshots_installed_total") >= 1.0, "the log could not have served it");
    cluster.wait_until(away, |cluster| log_bytes(cluster, away) <= BOUND).await;

    // An operator sees the same.
    let admin = cluster.caller(Role::Admin, "operator");
    for member in 1..=3 {
        let status = admin.status(member).await.unwrap();
        assert_eq!(status.log_bytes, log_bytes(&cluster, member));
        assert_eq!(cluster.metric(member, "weft_metadata_log_disk_bytes"), status.log_bytes as f64);
    }
}

/// Bytes of the segments in a member's directory.
fn log_bytes(cluster: &Cluster, member: u64) -> u64 {
    let files = std::fs::read_dir(cluster.data(member)).unwrap().map(|file| file.unwrap());
    let segments = files.filter(|file| file.file_name().to_str().unwrap().starts_with("log-"));
    // One that is removed while we look has none.
    segments.map(|file| file.metadata().map_or(0, |meta| meta.len())).sum()
}
