//! What a socket is tuned for. Every number here was measured or is a bound on memory; the reason stands beside it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::BbrConfig;
use quinn::{IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};

/// What a socket is tuned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Small messages: metadata, reports, lookups. Small windows, and a dead peer is noticed within 4 seconds.
    Control,
    /// KV blocks: large buffers, windows and datagrams, BBR.
    Bulk,
}

/// A profile and the datagram size to use with it.
///
/// # Datagram size
/// Larger datagrams are the largest gain there is: 8,952 bytes cost 40 % of the processor time that 1,452 do. They are safe
/// only where the whole path carries them, so by default:
/// - loopback uses 8,952 from the first packet;
/// - any other path begins at 1,200, which every path carries, and searches up to 8,952 (quinn's probing, RFC 8899): a jumbo
///   network is found within a few round trips, any other one stays at what it carries.
///
/// That goes for `Control` too: a metadata leader takes in megabytes of reports a second and sends them on to each member.
///
/// [`Profile::with_datagram_bytes`] pins the size instead, for networks known to carry it and no other. Each end states the
/// largest datagram it takes, and the other end never sends a larger one after the handshake; a pinned size that the path
/// does not carry fails the handshake, which shows as a connection that times out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    pub(crate) profile: Profile,
    pub(crate) datagram_bytes: Option<u16>,
}

/// UDP payload of a 9,000-byte Ethernet frame less IPv6 and UDP headers.
const JUMBO_BYTES: u16 = 8952;

/// A path inside a datacentre takes well under this; quinn's 333 ms would make the first retry of a lost packet a second late.
const INITIAL_RTT: Duration = Duration::from_millis(50);
/// A connection that carries nothing shows life this often.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// A peer that says nothing for so long is gone: three keep-alives may be lost.
const IDLE_MAX: Duration = Duration::from_secs(4);

impl Profile {
    /// Pins the datagram size (UDP payload, bytes) in both directions of every connection of a socket.
    #[must_use]
    pub const fn with_datagram_bytes(self, bytes: u16) -> Tuning {
        Tuning { profile: self, datagram_bytes: Some(bytes) }
    }

    /// Metric label.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Bulk => "bulk",
        }
    }

    /// Socket buffers, bytes each way. Bulk: bursts of a full congestion window must fit, or loopback itself loses packets.
    /// Control: a report of every node of a rack may arrive at once, 64 of them with 4,096 changes each.
    pub(crate) const fn socket_buffer_bytes(self) -> usize {
        match self {
            Self::Control => 4 << 20,
            Self::Bulk => 8 << 20,
        }
    }

    /// Streams that a peer may have open on one connection, requests and subscriptions together. Further ones wait at the
    /// caller, within its deadline. Control: as many calls as a busy node has in flight. Bulk: each pins a block and up to a
    /// send window.
    const fn streams_max(self) -> u32 {
        match self {
            Self::Control => 256,
            Self::Bulk => 64,
        }
    }

    /// Bytes that may be in flight on one stream to us, on one connection to us, and on one from us. The first is what a
    /// subscriber that does not read may lag behind. Bulk: a connection's window is no more than the socket buffer, so that
    /// whatever a sender has in flight fits it even while we are not scheduled. With 128 MiB, four fetches at a time on a
    /// busy machine lost 7 % of their packets and ran at half the speed; 8 MiB carry 25 Gb/s over 2.5 ms.
    const fn windows(self) -> (u32, u32, u64) {
        match self {
            Self::Control => (1 << 20, 16 << 20, 16 << 20),
            Self::Bulk => (8 << 20, 8 << 20, 32 << 20),
        }
    }
}

impl From<Profile> for Tuning {
    fn from(profile: Profile) -> Self {
        Self { profile, datagram_bytes: None }
    }
}

impl Tuning {
    /// Smallest datagram that QUIC works with (RFC 9000, section 14).
    pub const DATAGRAM_BYTES_MIN: u16 = 1200;
    /// Largest first datagram with which quinn still completes a handshake (measured; 16,000 hangs).
    pub const DATAGRAM_BYTES_MAX: u16 = 9400;

    /// Largest datagram that any connection of the socket sends or takes.
    pub(crate) fn datagram_bytes_max(self) -> u16 {
        self.datagram_bytes.unwrap_or(JUMBO_BYTES)
    }

    /// Settings of a connection with a peer at `remote`.
    pub(crate) fn transport(self, remote: IpAddr) -> Arc<TransportConfig> {
        let (stream, connection, send) = self.profile.windows();
        let mut config = TransportConfig::default();
        config
            .max_concurrent_bidi_streams(VarInt::from_u32(self.profile.streams_max()))
            .max_concurrent_uni_streams(VarInt::from_u32(1)) // the Hello
            .datagram_receive_buffer_size(None)
            .stream_receive_window(VarInt::from_u32(stream))
            .receive_window(VarInt::from_u32(connection))
            .send_window(send)
            .initial_rtt(INITIAL_RTT)
            .keep_alive_interval(Some(KEEP_ALIVE))
            .max_idle_timeout(Some(IdleTimeout::try_from(IDLE_MAX).expect("4 seconds fit a varint of milliseconds")));
        if self.profile == Profile::Bulk {
            // Without loss no better than CUBIC; with 0.1 % of it, five times as fast.
            config.congestion_controller_factory(Arc::new(BbrConfig::default()));
        }
        let loopback = remote.is_loopback().then_some(JUMBO_BYTES);
        if let Some(pinned) = self.datagram_bytes.or(loopback) {
            // Pinned: the black-hole detector must not take a burst of loss for a smaller path.
            config.initial_mtu(pinned).min_mtu(pinned).mtu_discovery_config(None);
        } else {
            let mut search = MtuDiscoveryConfig::default();
            search.upper_bound(self.datagram_bytes_max());
            config.mtu_discovery_config(Some(search));
        }
        Arc::new(config)
    }
}
