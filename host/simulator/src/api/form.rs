//! Forms (multipart/form-data), by which files come.

use bytes::Bytes;

use crate::api::arrival::Arrival;
use crate::api::refusal::Refusal;

/// Parts of a form.
const MAX_PARTS: usize = 16;

/// One file of a form.
#[derive(Debug, Clone)]
pub(crate) struct FormFile {
    pub(crate) name: String,
    pub(crate) content_type: String,
    pub(crate) bytes: Bytes,
}

#[derive(Debug)]
struct Part {
    name: String,
    file_name: Option<String>,
    content_type: Option<String>,
    bytes: Bytes,
}

/// A form that was read.
#[derive(Debug)]
pub(crate) struct Form {
    parts: Vec<Part>,
}

impl Form {
    /// Reads the body as a form: 41005 where it is none.
    pub(crate) fn parse(arrival: &Arrival) -> Result<Self, Refusal> {
        if arrival.body.is_empty() {
            return Err(Refusal::of(44002));
        }
        let content_type = arrival.content_type.as_deref().unwrap_or("");
        parts(content_type, &arrival.body)
            .map(|parts| Self { parts })
            .ok_or_else(|| Refusal::of(41005))
    }

    /// A file, which must have a file name and a content type: 41005 otherwise, 44001 where it is
    /// empty.
    pub(crate) fn file(&self, name: &str) -> Result<FormFile, Refusal> {
        let absent = || Refusal::of(41005);
        let part = self.part(name).ok_or_else(absent)?;
        let file_name = part.file_name.clone().filter(|name| !name.is_empty());
        let file = FormFile {
            name: file_name.ok_or_else(absent)?,
            content_type: part.content_type.clone().ok_or_else(absent)?,
            bytes: part.bytes.clone(),
        };
        if file.bytes.is_empty() {
            return Err(Refusal::of(44001));
        }
        Ok(file)
    }

    /// The bytes of a field that is no file.
    pub(crate) fn field(&self, name: &str) -> Option<&Bytes> {
        self.part(name).map(|part| &part.bytes)
    }

    fn part(&self, name: &str) -> Option<&Part> {
        self.parts.iter().find(|part| part.name == name)
    }
}

fn parts(content_type: &str, body: &Bytes) -> Option<Vec<Part>> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let boundary = parameter(parameters, "boundary").filter(|boundary| !boundary.is_empty())?;
    let delimiter = format!("\r\n--{boundary}");
    // The first delimiter has no line end before it.
    let first = &delimiter.as_bytes()[2..];
    let mut rest = body.strip_prefix(first).map(|rest| body.slice_ref(rest))?;
    let mut parts = Vec::new();
    while let Some(after) = rest.strip_prefix(b"\r\n") {
        let content = rest.slice_ref(after);
        let end = find(&content, delimiter.as_bytes())?;
        if parts.len() == MAX_PARTS {
            return None;
        }
        parts.push(part(&content.slice(..end))?);
        rest = content.slice(end + delimiter.len()..);
    }
    rest.starts_with(b"--").then_some(parts)
}

fn part(content: &Bytes) -> Option<Part> {
    let head_end = find(content, b"\r\n\r\n")?;
    let head = std::str::from_utf8(&content[..head_end]).ok()?;
    let header = |name: &str| {
        let mut lines = head.split("\r\n").filter_map(|line| line.split_once(':'));
        let found = lines.find(|(given, _)| given.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim())
    };
    let (_, disposition) = header("content-disposition")?.split_once(';')?;
    Some(Part {
        name: parameter(disposition, "name")?,
        file_name: parameter(disposition, "filename"),
        content_type: header("content-type").map(str::to_owned),
        bytes: content.slice(head_end + 4..),
    })
}

/// A parameter of a header, without its quotes.
fn parameter(parameters: &str, name: &str) -> Option<String> {
    let mut pairs = parameters
        .split(';')
        .filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(given, _)| given.trim() == name)?;
    Some(value.trim().trim_matches('"').to_owned())
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    let (first, tail) = wanted.split_first()?;
    let mut start = 0;
    loop {
        start += bytes.get(start..)?.iter().position(|byte| byte == first)?;
        if bytes[start + 1..].starts_with(tail) {
            return Some(start);
        }
        start += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=XX";

    /// Name, file name and content of a part.
    type Read = (String, Option<String>, Vec<u8>);

    fn read(body: &str) -> Option<Vec<Read>> {
        let parts = parts(TYPE, &Bytes::copy_from_slice(body.as_bytes()))?;
        let read = |part: Part| (part.name, part.file_name, part.bytes.to_vec());
        Some(parts.into_iter().map(read).collect())
    }

    #[test]
    fn reads_fields_and_files() {
        let body = "--XX\r\nContent-Disposition: form-data; name=\"media\"; filename=\"a.png\"\r\n\
                    Content-Type: image/png\r\n\r\n\r\n--XY\r\n\r\n--XX\r\n\
                    content-disposition: form-data; name=\"description\"\r\n\r\n{}\r\n--XX--\r\n";
        assert_eq!(
            read(body).unwrap(),
            [
                (
                    "media".into(),
                    Some("a.png".into()),
                    b"\r\n--XY\r\n".to_vec()
                ),
                ("description".into(), None, b"{}".to_vec()),
            ]
        );
    }

    #[test]
    fn what_is_no_form_is_none() {
        for body in [
            "",
            "--XX",
            "--XX\r\n",
            "--XX\r\nno headers\r\n--XX--",
            "--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nunfinished",
            "--YY\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nb\r\n--YY--",
        ] {
            assert_eq!(read(body), None, "{body}");
        }
    }

    #[test]
    fn a_form_of_endless_parts_is_none() {
        let part = "--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nb\r\n";
        assert!(read(&format!("{}--XX--", part.repeat(16))).is_some());
        assert!(read(&format!("{}--XX--", part.repeat(17))).is_none());
    }
}
