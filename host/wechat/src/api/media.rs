//! Temporary media (临时素材): files that WeChat keeps for three days.
//!
//! Files are streamed by the client: an upload describes its form, and the answer to a download is
//! mostly the file itself, see [`is_document`].

use serde::Deserialize;

use super::answer;
use super::limit::{self, InvalidCall};
use super::{Call, Multipart, Request};

/// Most bytes of a file's name.
pub const MAX_FILE_NAME_BYTES: usize = 128;
/// Most bytes of a picture for an article's body; it has less than 1 MiB.
pub const MAX_PICTURE_BYTES: u64 = MIB - 1;

const MIB: u64 = 1024 * 1024;

/// `POST /cgi-bin/media/upload`.
#[derive(Clone, Debug)]
pub struct Upload {
    /// What it is.
    pub kind: Kind,
    /// The file.
    pub file: File,
}

/// `GET /cgi-bin/media/get`: answers the file, or the address of a video.
#[derive(Clone, Debug)]
pub struct Download {
    /// The file.
    pub media_id: String,
}

/// `GET /cgi-bin/media/get/jssdk`: a voice message that a page recorded, in better quality (speex).
#[derive(Clone, Debug)]
pub struct DownloadVoice {
    /// The recording.
    pub media_id: String,
}

/// `POST /cgi-bin/media/uploadimg`: a picture for the body of articles, which is not counted among the
/// account's media.
#[derive(Clone, Debug)]
pub struct UploadPicture {
    /// A JPG or PNG.
    pub file: File,
}

/// What a file is to WeChat.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Up to 10 MiB of BMP, PNG, JPG or GIF.
    Image,
    /// Up to 2 MiB and 60 seconds of AMR or MP3.
    Voice,
    /// Up to 10 MiB of MP4.
    Video,
    /// A cover: up to 64 KiB of JPG.
    Thumb,
}

/// A file as a form describes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct File {
    /// Its name with the ending of its format, such as `cat.jpg`: letters, digits, `-`, `_` and `.`,
    /// since WeChat misses files of other names (41005).
    pub name: String,
    /// Its type, such as `image/jpeg`.
    pub content_type: String,
}

/// A file that was uploaded.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Uploaded {
    /// Names it for three days.
    #[serde(alias = "thumb_media_id")]
    pub media_id: String,
    /// Unix seconds.
    #[serde(default, deserialize_with = "answer::number")]
    pub created_at: u64,
}

/// Where a video is found.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct VideoAddress {
    /// Its address.
    pub video_url: String,
}

/// Where a picture is found.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct PictureAddress {
    /// Its address, for articles only.
    pub url: String,
}

/// Whether the answer to a download is a document to be read with [`Call::answer`] (an error, a video's
/// address), going by its first bytes; otherwise it is the file. No format of files begins that way.
pub fn is_document(beginning: &[u8]) -> bool {
    beginning.trim_ascii_start().first() == Some(&b'{')
}

impl Kind {
    /// As WeChat names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Image => "image",
            Kind::Voice => "voice",
            Kind::Video => "video",
            Kind::Thumb => "thumb",
        }
    }

    /// Most bytes of such a file.
    pub fn max_bytes(self) -> u64 {
        match self {
            Kind::Image | Kind::Video => 10 * MIB,
            Kind::Voice => 2 * MIB,
            Kind::Thumb => 64 * 1024,
        }
    }

    fn endings(self) -> &'static [&'static str] {
        match self {
            Kind::Image => &["bmp", "png", "jpeg", "jpg", "gif"],
            Kind::Voice => &["amr", "mp3"],
            Kind::Video => &["mp4"],
            Kind::Thumb => &["jpg", "jpeg"],
        }
    }

    /// The form that uploads a file as this.
    pub(super) fn form(self, file: &File) -> Result<Multipart, InvalidCall> {
        file.form(self.endings(), self.max_bytes())
    }
}

impl File {
    /// The form that uploads it as one of these formats.
    pub(super) fn form(&self, endings: &[&str], max_bytes: u64) -> Result<Multipart, InvalidCall> {
        limit::bytes("filename", &self.name, 1..=MAX_FILE_NAME_BYTES)?;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let is_plain = self.name.bytes().all(is_plain);
        limit::demand(
            is_plain,
            "filename",
            "holds more than letters, digits and -_.",
        )?;
        let (_, ending) = self.name.rsplit_once('.').unwrap_or_default();
        let fits = endings
            .iter()
            .any(|known| ending.eq_ignore_ascii_case(known));
        limit::demand(
            fits,
            "filename",
            "has not the ending of a format that wechat takes here",
        )?;
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-+./".contains(&byte);
        let is_type = self.content_type.contains('/') && self.content_type.bytes().all(is_token);
        limit::demand(is_type, "content-type", "is not type/subtype")?;
        Ok(Multipart {
            field: "media",
            file_name: self.name.clone(),
            content_type: self.content_type.clone(),
            max_bytes,
            texts: Vec::new(),
        })
    }
}

impl Call for Upload {
    type Answer = Uploaded;

    fn request(&self) -> Result<Request, InvalidCall> {
        let form = self.kind.form(&self.file)?;
        Ok(Request::upload("/cgi-bin/media/upload", form).with("type", self.kind.as_str()))
    }
}

impl Call for Download {
    type Answer = VideoAddress;

    fn request(&self) -> Result<Request, InvalidCall> {
        limit::given("media_id", &self.media_id)?;
        Ok(Request::get("/cgi-bin/media/get").with("media_id", &self.media_id))
    }
}

impl Call for DownloadVoice {
    type Answer = VideoAddress;

    fn request(&self) -> Result<Request, InvalidCall> {
        limit::given("media_id", &self.media_id)?;
        Ok(Request::get("/cgi-bin/media/get/jssdk").with("media_id", &self.media_id))
    }
}

impl Call for UploadPicture {
    type Answer = PictureAddress;

    fn request(&self) -> Result<Request, InvalidCall> {
        let form = self.file.form(&["jpg", "jpeg", "png"], MAX_PICTURE_BYTES)?;
        Ok(Request::upload("/cgi-bin/media/uploadimg", form))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{answer, line, refused};
    use super::*;

    fn file(name: &str) -> File {
        File {
            name: name.into(),
            content_type: "image/jpeg".into(),
        }
    }

    #[test]
    fn requests_are_the_documents() {
        let upload = Upload {
            kind: Kind::Thumb,
            file: file("cover.JPG"),
        };
        assert_eq!(
            line(&upload),
            "POST /cgi-bin/media/upload?type=thumb Multipart { field: \"media\", file_name: \
             \"cover.JPG\", content_type: \"image/jpeg\", max_bytes: 65536, texts: [] }"
        );
        let media_id = "m1".to_owned();
        assert_eq!(
            line(&Download {
                media_id: media_id.clone()
            }),
            "GET /cgi-bin/media/get?media_id=m1"
        );
        assert_eq!(
            line(&DownloadVoice { media_id }),
            "GET /cgi-bin/media/get/jssdk?media_id=m1"
        );
        let picture = UploadPicture {
            file: file("a.png"),
        }
        .request()
        .unwrap();
        assert_eq!(picture.path, "/cgi-bin/media/uploadimg");
        assert!(!picture.idempotent);
    }

    #[test]
    fn answers_are_read() {
        let upload = Upload {
            kind: Kind::Image,
            file: file("a.jpg"),
        };
        let uploaded = answer(
            &upload,
            r#"{"type":"image","media_id":"m1","created_at":123456789}"#,
        );
        assert_eq!(
            (&*uploaded.media_id, uploaded.created_at),
            ("m1", 123_456_789)
        );
        let thumb = answer(
            &upload,
            r#"{"type":"thumb","thumb_media_id":"m2","created_at":1}"#,
        );
        assert_eq!(thumb.media_id, "m2");
        let download = Download {
            media_id: "m1".into(),
        };
        let video = answer(&download, r#"{"video_url":"http://a.example/v"}"#);
        assert_eq!(video.video_url, "http://a.example/v");
        assert!(is_document(b" {\"errcode\":40007}"));
        assert!(!is_document(b"\xff\xd8\xff") && !is_document(b"") && !is_document(b"#!AMR"));
    }

    #[test]
    fn file_of_another_format_or_a_forged_header_is_refused() {
        let check = |kind: Kind, name: &str, expected: &str| {
            assert_eq!(
                refused(&Upload {
                    kind,
                    file: file(name)
                }),
                expected
            );
        };
        let format = "filename has not the ending of a format that wechat takes here";
        check(Kind::Image, "a.svg", format);
        check(Kind::Voice, "a.wav", format);
        check(Kind::Video, "mp4", format);
        check(Kind::Thumb, "a.png", format);
        let plain = "filename holds more than letters, digits and -_.";
        check(Kind::Image, "a\"; name=\"b.jpg", plain);
        check(Kind::Image, "a\r\nX: y.jpg", plain);
        check(Kind::Image, "../a.jpg", plain);
        check(Kind::Image, "猫.jpg", plain);
        check(
            Kind::Image,
            "",
            "filename has 0 bytes, 1 to 128 are allowed",
        );
        for content_type in ["", "image", "image/jpeg\r\nX: y", "image/jpeg; a=b"] {
            let content_type = content_type.to_owned();
            let picture = UploadPicture {
                file: File {
                    content_type,
                    ..file("a.jpg")
                },
            };
            assert_eq!(refused(&picture), "content-type is not type/subtype");
        }
        let none = Download {
            media_id: String::new(),
        };
        assert_eq!(refused(&none), "media_id is empty");
    }
}
