//! The process that accepts and supervises.
