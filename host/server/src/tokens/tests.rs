//! Tokens of several hosts, against a WeChat that counts.
