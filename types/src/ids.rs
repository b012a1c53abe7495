//! Identities. Names for what humans configure, dense numbers for what the directory hands out.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Name, ParseNameError, Tier};

macro_rules! name_id {
    ($(#[$doc:meta])* $id:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $id(Name);

        impl $id {
            /// The name behind the identity.
            #[must_use]
            pub fn name(&self) -> &Name {
                &self.0
            }
        }

        impl From<Name> for $id {
            fn from(name: Name) -> Self {
                Self(name)
            }
        }

        impl FromStr for $id {
            type Err = ParseNameError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }

        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($id), "({})"), self.0)
            }
        }
    };
}

macro_rules! number_id {
    ($(#[$doc:meta])* $id:ident($repr:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $id($repr);

        impl $id {
            /// Wraps the number.
            #[must_use]
            pub const fn new(number: $repr) -> Self {
                Self(number)
            }

            /// The bare number.
            #[must_use]
            pub const fn get(self) -> $repr {
                self.0
            }

            /// The next number. Saturates, since a wrapped identity would be a lie.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($id), "({})"), self.0)
            }
        }
    };
}

name_id! {
    /// A cache process: one node daemon.
    NodeId
}
name_id! {
    /// An engine replica that can serve requests.
    EndpointId
}
name_id! {
    /// Who a caller proved to be; its salt is part of every hash.
    TenantId
}
name_id! {
    /// Tenants that share named public prefixes.
    GroupId
}
name_id! {
    /// The part of an API key that is no secret: what it is listed and removed by.
    KeyId
}
number_id! {
    /// One place that can hold blocks, as a small dense number that the directory hands out and reuses after a sweep.
    HolderId(u32)
}
number_id! {
    /// Life of a holder number: raised when the holder is retired, so that older entries are masked at once.
    Generation(u32)
}
number_id! {
    /// Boot counter of a holder: fences claims from before a restart. Larger is later.
    Incarnation(u64)
}
number_id! {
    /// A voter or learner of the metadata group; openraft's node id.
    MemberId(u64)
}
number_id! {
    /// A timed promise not to evict.
    LeaseId(u64)
}
number_id! {
    /// One request of an operator, chosen at random by who asks: sent twice, it is done once.
    RequestId(u64)
}
number_id! {
    /// Which Raft group a directory message is for. The first version runs one, number 0.
    ShardId(u16)
}

/// What a holder is: the device memory of one engine rank, or one tier of one node.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum HolderKey {
    /// Device memory of one data-parallel rank of an engine; always tier `Device`.
    Device {
        /// The engine replica.
        endpoint: EndpointId,
        /// Data-parallel rank, from 0.
        rank: u16,
    },
    /// One tier of a node daemon: `Host`, `Disk` or `Object`.
    Node {
        /// The node daemon.
        node: NodeId,
        /// Which of its tiers.
        tier: Tier,
    },
}

impl HolderKey {
    /// The tier in which this holder keeps blocks.
    #[must_use]
    pub fn tier(&self) -> Tier {
        match self {
            Self::Device { .. } => Tier::Device,
            Self::Node { tier, .. } => *tier,
        }
    }
}

impl fmt::Display for HolderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device { endpoint, rank } => write!(f, "{endpoint}:{rank}/device"),
            Self::Node { node, tier } => write!(f, "{node}/{tier}"),
        }
    }
}
