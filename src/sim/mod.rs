//! The simulated side of the seam.
