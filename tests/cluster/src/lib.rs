//! weft-cluster-tests.
