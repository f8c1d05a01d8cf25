//! Calls against a WeChat that answers as the test says.
