//! weft-engine-sim.
