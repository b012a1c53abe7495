//! Which engines are attached, for whoever looks at the node.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};
use weft_types::{Contract, ContractId, EndpointId};

use crate::report::DeviceHeld;

/// Attached engines, by session. Bounded by the connections.
#[derive(Debug, Default)]
pub(crate) struct Roll {
    engines: Mutex<BTreeMap<u64, Entry>>,
}

#[derive(Debug)]
struct Entry {
    endpoint: EndpointId,
    contract: ContractId,
    block_bytes: u64,
    device: Arc<Mutex<DeviceHeld>>,
}

impl Roll {
    /// An engine was let in.
    pub(crate) fn enter(
        &self,
        endpoint: &EndpointId,
        session: u64,
        contract: &Contract,
        device: &Arc<Mutex<DeviceHeld>>,
    ) {
        let entry = Entry {
            endpoint: endpoint.clone(),
            contract: contract.id(),
            block_bytes: contract.block_bytes(),
            device: Arc::clone(device),
        };
        self.engines.lock().insert(session, entry);
    }

    /// It is gone.
    pub(crate) fn strike(&self, session: u64) {
        self.engines.lock().remove(&session);
    }

    /// Blocks, and their bytes, that all engines say they hold in device memory.
    pub(crate) fn device_held(&self) -> (u64, u64) {
        let engines = self.engines.lock();
        let held = engines.values().map(|entry| (entry.device.lock().len() as u64, entry.block_bytes));
        held.fold((0, 0), |(blocks, bytes), (more, block_bytes)| (blocks + more, bytes + more * block_bytes))
    }

    /// Blocks that each engine says it holds in device memory.
    pub(crate) fn devices(&self) -> BTreeMap<EndpointId, u64> {
        let engines = self.engines.lock();
        engines.values().map(|entry| (entry.endpoint.clone(), entry.device.lock().len() as u64)).collect()
    }

    /// For the admin port.
    pub(crate) fn state(&self) -> Value {
        let engines = self.engines.lock();
        let engine = |entry: &Entry| {
            json!({
                "endpoint": entry.endpoint.to_string(),
                "contract": entry.contract.to_string(),
                "device_blocks": entry.device.lock().len(),
            })
        };
        engines.values().map(engine).collect()
    }
}
