//! Layered configuration: TOML file, then `WEFT_*` environment, then flags.
