//! The callback protocol from outside: known answers, samples, round trips, attacks.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod attacks;
mod calls;
mod cases;
mod contract;
mod data;
mod identities;
mod kinds;
mod opening;
mod pay_vectors;
mod properties;
mod replies;
mod samples;
mod vectors;
mod worst;
