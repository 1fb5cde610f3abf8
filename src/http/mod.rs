//! HTTP/1.1, server side, without descriptors, clock or kernel. Pure.
