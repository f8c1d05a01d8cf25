//! Where a CDATA section ends that whoever wrote its content may have closed.

use crate::xml::SPACE;

const END: &str = "]]>";

/// Whether users write this field: its content is theirs to choose, and WeChat writes it once.
pub(crate) fn is_written_by_users(name: &str) -> bool {
    place_of(name).is_some()
}

/// Fields that users write: messages, what they scanned, places that they named, invoice titles.
const WRITTEN_BY_PEOPLE: [&str; 16] = [
    "Content",
    "Recognition",
    "Title",
    "Description",
    "Url",
    "Label",
    "Poiname",
    "ScanResult",
    "SessionFrom",
    "PagePath",
    "title",
    "phone",
    "tax_no",
    "addr",
    "bank_type",
    "bank_no",
];

fn place_of(name: &str) -> Option<usize> {
    WRITTEN_BY_PEOPLE.iter().position(|own| *own == name)
}

/// Finds the ends of sections in one text.
pub(super) struct Sections<'a> {
    text: &'a str,
    /// For each field of [`WRITTEN_BY_PEOPLE`], once asked: where its last section ends, if it does.
    last_ends: [Option<Option<usize>>; WRITTEN_BY_PEOPLE.len()],
    /// A section was not closed by its element's end, so nothing is searched to the end of the text
    /// again: the next `]]>` has to do.
    is_broken: bool,
}

impl<'a> Sections<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        Self {
            text,
            last_ends: [None; WRITTEN_BY_PEOPLE.len()],
            is_broken: false,
        }
    }

    /// Where the `]]>` is that ends the section whose content begins at `from`, in the element `name`.
    pub(super) fn end(&mut self, from: usize, name: &str) -> Option<usize> {
        if let Some(place) = place_of(name) {
            let text = self.text;
            let last = *self.last_ends[place].get_or_insert_with(|| last_end(text, name));
            if let Some(last) = last.filter(|last| *last >= from) {
                return Some(last);
            }
        } else if !self.is_broken {
            if let Some(first) = first_end(self.text, from, name) {
                return Some(first);
            }
            self.is_broken = true;
        }
        self.text[from..].find(END).map(|length| from + length)
    }
}

/// The first `]]>` from `from` on that is followed by the element's end.
fn first_end(text: &str, from: usize, name: &str) -> Option<usize> {
    let mut at = from;
    loop {
        let end = at + text[at..].find(END)?;
        if begins_with_end_tag(&text[end + END.len()..], name) {
            return Some(end);
        }
        // Brackets may overlap: `]]]>`.
        at = end + 1;
    }
}

/// The last `]]>` of all that is followed by the element's end.
fn last_end(text: &str, name: &str) -> Option<usize> {
    let mut before = text.len();
    loop {
        let tag = text[..before].rfind("</")?;
        if is_end_tag(&text[tag..], name) {
            let content = text[..tag].trim_end_matches(SPACE);
            if content.ends_with(END) {
                return Some(content.len() - END.len());
            }
        }
        before = tag;
    }
}

fn begins_with_end_tag(text: &str, name: &str) -> bool {
    is_end_tag(text.trim_start_matches(SPACE), name)
}

fn is_end_tag(text: &str, name: &str) -> bool {
    let rest = text
        .strip_prefix("</")
        .and_then(|rest| rest.strip_prefix(name));
    rest.is_some_and(|rest| rest.trim_start_matches(SPACE).starts_with('>'))
}

/// The ciphertext of the last `Encrypt` of a body.
pub(super) fn last_encrypt(text: &str) -> Option<&str> {
    let mut before = text.len();
    loop {
        let tag = text[..before].rfind('<')?;
        if let Some(content) = text[tag..].strip_prefix("<Encrypt>") {
            return Some(ciphertext(content));
        }
        before = tag;
    }
}

/// The ciphertext of the first.
pub(super) fn first_encrypt(text: &str) -> Option<&str> {
    text.split_once("<Encrypt>")
        .map(|(_, content)| ciphertext(content))
}

fn ciphertext(content: &str) -> &str {
    let end = content.find("</Encrypt>").unwrap_or(content.len());
    let content = content[..end].trim_matches(SPACE);
    let section = content.strip_prefix("<![CDATA[");
    let section = section.and_then(|section| section.strip_suffix(END));
    section.unwrap_or(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, name: &str, expected: &str) {
        let from = text.find("[CDATA[").unwrap() + "[CDATA[".len();
        let end = Sections::of(text).end(from, name).unwrap();
        assert_eq!(&text[from..end], expected, "{text}");
    }

    #[test]
    fn field_of_a_person_ends_at_its_last_end_and_another_at_its_first() {
        let twice = "<![CDATA[a]]></Content><Content><![CDATA[b]]></Content><MsgId/>";
        check(twice, "Content", "a]]></Content><Content><![CDATA[b");
        let twice = twice.replace("Content", "EventKey");
        check(&twice, "EventKey", "a");
        check("<![CDATA[a]]>b]]></EventKey>", "EventKey", "a]]>b");
        check("<![CDATA[]]]]></EventKey>", "EventKey", "]]");
        check("<![CDATA[a]]>\n </Content\t>", "Content", "a");
        // A longer name is another element.
        check(
            "<![CDATA[a]]></ContentX>]]></Content>",
            "Content",
            "a]]></ContentX>",
        );
    }

    #[test]
    fn section_that_its_element_does_not_close_ends_at_the_next_brackets() {
        check("<![CDATA[a]]></Other>", "EventKey", "a");
        check("<![CDATA[a]]></Other>", "Content", "a");
        assert_eq!(Sections::of("<![CDATA[a").end(9, "Content"), None);
    }

    #[test]
    fn ciphertext_is_wechats_whatever_stands_before_it() {
        for (body, last) in [
            (
                "<xml><Encrypt><![CDATA[abc=]]></Encrypt></xml>",
                Some("abc="),
            ),
            ("<xml><Encrypt> abc= </Encrypt></xml>", Some("abc=")),
            ("<Encrypt>x</Encrypt><Encrypt>abc=</Encrypt>", Some("abc=")),
            ("<Encrypt><![CDATA[]]></Encrypt>", Some("")),
            // Whatever else is there makes it another one, which no signature covers.
            (
                "<Encrypt><![CDATA[abc=]]>x</Encrypt>",
                Some("<![CDATA[abc=]]>x"),
            ),
            ("<Encrypt><![CDATA[abc=]]>", Some("abc=")),
            ("<xml></xml>", None),
        ] {
            assert_eq!(last_encrypt(body), last, "{body}");
        }
        let body = "<Encrypt>x</Encrypt><Encrypt>abc=</Encrypt>";
        assert_eq!(first_encrypt(body), Some("x"));
    }
}
