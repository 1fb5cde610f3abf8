//! The client on made-up kernels.
