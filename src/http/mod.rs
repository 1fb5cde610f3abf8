//! HTTP/1.1, server side, without descriptors, clock or kernel. Pure.
//!
//! An application meets [`Handler`], [`Request`] and [`Response`]; [`Http`] makes a
//! [`Protocol`](crate::protocol::Protocol) of a handler. Bytes go through `head`, `body` and
//! `chunk`; `connection` decides what happens when, `serve` takes one request to the handler,
//! `answer` gets out what is not out at once.
//!
//! ```
//! use ringfort::http::{InvalidHeader, Request, Response};
//! use std::time::Duration;
//!
//! fn handler(request: &Request<'_>, response: &mut Response) -> Result<(), InvalidHeader> {
//!     match (request.method(), request.path()) {
//!         ("GET", "/") => response.text("Hello, World!"),
//!         ("GET", "/greet") => {
//!             let name = request.query_value("name").unwrap_or_default();
//!             response.header("Cache-Control", "no-store")?.text(format!("Hello, {name}!"));
//!         }
//!         ("POST", "/length") => response.text(request.body().len().to_string()),
//!         ("GET", "/later") => {
//!             response.after(Duration::from_millis(50), |response| response.text("at last"));
//!         }
//!         _ => response.plain(404),
//!     }
//!     Ok(())
//! }
//! # let _ = handler;
//! ```

mod access;
mod answer;
pub mod body;
pub mod chunk;
mod client;
pub mod close;
mod connection;
pub mod date;
mod front;
mod handler;
pub mod head;
mod owned;
pub mod range;
pub mod rate;
mod request;
mod response;
mod serve;
mod syntax;
#[cfg(feature = "http")]
pub mod types;
pub use connection::{Connection, Http};
pub(crate) use handler::Owed;
pub use handler::{Handler, Outcome, Pull, Stream, Upload};
pub use head::Version;
pub use owned::OwnedRequest;
pub use request::Request;
pub(crate) use request::percent_decode;
pub use response::{FileBody, InvalidHeader, Response};

#[cfg(test)]
mod broken;
