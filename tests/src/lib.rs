//! What the end-to-end suite and the benchmarks stand on: real processes and real HTTP, nothing of
//! the host's insides.
//!
//! A [`site::Site`] is fresh state (a file, or a database of a PostgreSQL and a Redis that the suite
//! started itself); [`host::Host`] is a `wxhost serve` on it; [`account::Account`] plays WeChat's side
//! of one official account, [`api::WechatApi`] its API; [`admin::Admin`] is the operator. Everything that is started ends with
//! the test process, however that ends.

pub mod account;
pub mod admin;
pub mod api;
pub mod command;
pub mod database;
pub mod host;
pub mod plugin;
pub mod port;
pub mod postgres;
pub mod process;
pub mod redis;
pub mod relay;
pub mod secrets;
pub mod site;
pub mod wait;
