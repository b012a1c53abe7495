//! `grpc.health.v1` for those who ask before they send: `liveness`, `readiness`, the picker's own name, or none.

use super::wire::{HealthCheckRequest, HealthCheckResponse, Serving};
use super::{PROCESSOR, Picker};

/// Whether a service serves; the picker does while some endpoint is healthy.
pub(super) fn check(picker: &Picker, asked: &HealthCheckRequest) -> Result<HealthCheckResponse, tonic::Status> {
    let ready = || if picker.gateway.ready().is_ok() { Serving::Yes } else { Serving::No };
    let serving = match asked.service.as_str() {
        "liveness" => Serving::Yes,
        "" | "readiness" | PROCESSOR => ready(),
        other => {
            return Err(tonic::Status::not_found(format!(
                "there is no service '{other}' here: expected liveness, readiness or {PROCESSOR}"
            )));
        }
    };
    Ok(HealthCheckResponse { status: serving.into() })
}
