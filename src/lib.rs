//! A default-deny egress firewall for rootless Podman containers.
//!
//! One direction: profile text -> targets -> policy -> document -> kernel table -> live JSON -> what it means. The rooms are
//! described in `docs/architecture.md`; `shield` holds what an operator can do, `hook` what a runtime asks.
#![warn(missing_docs)]

pub mod audit;
pub mod bundle;
pub mod config;
pub mod dns;
pub mod environment;
mod error;
pub mod hook;
pub mod kernel;
pub mod lookup;
pub mod podman;
pub mod policy;
pub mod profiles;
pub mod ruleset;
pub mod shield;

pub use error::{Error, Exit};
