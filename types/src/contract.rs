//! What all who share a model key must agree on.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Checksum, ModelKey};

/// Number of a part in its contract, from 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PartId(pub u16);

/// A piece of a block that given ranks read and write. Parts need not be equal, and are not one a rank.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Part {
    /// Bytes of this part of every block.
    pub bytes: u64,
    /// Tensor-parallel ranks that read and write it.
    pub ranks: Vec<u16>,
}

/// The agreement on one model key, with adapter and salt left empty. Metadata keeps the first that joins; whoever
/// disagrees later is refused with both sides of the disagreement.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Contract {
    /// Adapter and salt are empty.
    pub model_key: ModelKey,
    /// Parts of a block, in the order of their [`PartId`].
    pub parts: Vec<Part>,
    /// Names clients use for the model; each resolves to `model_key`.
    pub aliases: Vec<String>,
    /// BLAKE3 of tokenizer.json, hex; empty when unknown.
    pub tokenizer: String,
    /// BLAKE3 of the chat template, hex; empty when unknown.
    pub chat_template: String,
}

/// Two contracts for one model key that differ.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[error(
    "contract conflict on {field}: the cluster agreed on {agreed}, this process brings {offered}; \
         start it with the cluster's value, or give it a model name or revision of its own"
)]
pub struct ContractConflict {
    /// Which field differs.
    pub field: String,
    /// What metadata holds.
    pub agreed: String,
    /// What the joiner brought.
    pub offered: String,
}

impl Contract {
    /// Bytes of a whole block.
    #[must_use]
    pub fn block_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }

    /// Short name of the contract in logs and file names: the checksum of its canonical model key.
    #[must_use]
    pub fn id(&self) -> ContractId {
        ContractId(Checksum::of(&self.model_key.canonical()))
    }

    /// First field in which `offered` disagrees with this, the agreed one. Aliases are merged, not compared; an empty
    /// digest agrees with any.
    ///
    /// # Errors
    /// The disagreement, both sides of it.
    pub fn check(&self, offered: &Self) -> Result<(), ContractConflict> {
        let conflict = |field: &str, agreed: &dyn fmt::Debug, offered: &dyn fmt::Debug| {
            Err(ContractConflict {
                field: field.to_owned(),
                agreed: format!("{agreed:?}"),
                offered: format!("{offered:?}"),
            })
        };
        let known = |a: &str, b: &str| !a.is_empty() && !b.is_empty() && a != b;
        if self.model_key != offered.model_key {
            return conflict("model_key", &self.model_key, &offered.model_key);
        }
        if self.parts != offered.parts {
            return conflict("parts", &self.parts, &offered.parts);
        }
        if known(&self.tokenizer, &offered.tokenizer) {
            return conflict("tokenizer", &self.tokenizer, &offered.tokenizer);
        }
        if known(&self.chat_template, &offered.chat_template) {
            return conflict("chat_template", &self.chat_template, &offered.chat_template);
        }
        Ok(())
    }
}

/// Short name of a contract, for logs and file names; `Contract::check` is what compares.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContractId(Checksum);

impl ContractId {
    /// The checksum of its canonical model key.
    #[must_use]
    pub const fn checksum(self) -> Checksum {
        self.0
    }
}

impl fmt::Display for ContractId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
