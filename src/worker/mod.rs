//! The process that serves.
