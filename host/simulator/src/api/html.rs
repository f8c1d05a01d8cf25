//! Text of others in pages.

/// Text as it stands in HTML, between tags or in an attribute's quotes.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;")
}
