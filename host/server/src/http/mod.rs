//! What all that is served shares (connections, bodies, routes, errors), and what is served beside the
//! lanes: the admin API, what tenants' own systems call, and health. No SQL here, and nothing of WeChat's
//! formats.

mod connection;
pub mod listener;
mod peers;
pub mod router;

pub mod admin;
pub mod component;
pub mod health;
pub mod login;
pub mod notify;
pub mod payer;
pub mod tenant;

pub(crate) mod body;
pub mod error;
mod extract;
mod html;
pub mod openapi;
mod page;
