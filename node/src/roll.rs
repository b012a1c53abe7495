//! Which engines are attached, for whoever looks at the node.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};
use weft_types::{ContractId, EndpointId};

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
    device: Arc<Mutex<DeviceHeld>>,
}

impl Roll {
    /// An engine was let in.
    pub(crate) fn enter(
        &self,
        endpoint: &EndpointId,
        session: u64,
        contract: ContractId,
        device: &Arc<Mutex<DeviceHeld>>,
    ) {
        let entry = Entry { endpoint: endpoint.clone(), contract, device: Arc::clone(device) };
        self.engines.lock().insert(session, entry);
    }

    /// It is gone.
    pub(crate) fn strike(&self, session: u64) {
        self.engines.lock().remove(&session);
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
