//! Admin HTTP: /live /ready /metrics /log-level /state.
