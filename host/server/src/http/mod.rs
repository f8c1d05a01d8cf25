//! The URL map and what stands behind each address. No SQL here, and nothing of WeChat's formats.

mod connection;
pub mod listener;
mod peers;
pub mod router;

pub mod admin;
pub mod callback;
pub mod health;
pub mod tenant;

mod body;
pub mod error;
mod extract;
pub mod openapi;
mod page;
