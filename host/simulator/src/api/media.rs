//! What an account keeps at WeChat: temporary media for three days, permanent material for good.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::Environment;
use crate::api::refusal::Refusal;

/// How long temporary media is kept.
const KEPT_MS: u64 = 3 * 24 * 3600 * 1000;
/// Media that is kept per app, and its bytes: the simulator's own limits.
const MAX_KEPT: usize = 20_000;
const MAX_KEPT_BYTES: usize = 128 << 20;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MediaKind {
    Image,
    Voice,
    Video,
    Thumb,
}

impl MediaKind {
    /// The types that can be uploaded.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        match name {
            "image" => Some(Self::Image),
            "voice" => Some(Self::Voice),
            "video" => Some(Self::Video),
            "thumb" => Some(Self::Thumb),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Voice => "voice",
            Self::Video => "video",
            Self::Thumb => "thumb",
        }
    }
}

/// A file.
#[derive(Debug, Clone)]
pub(crate) struct Media {
    pub(crate) kind: MediaKind,
    pub(crate) name: String,
    pub(crate) content_type: String,
    pub(crate) bytes: Bytes,
    pub(crate) created_at_ms: u64,
    pub(crate) is_permanent: bool,
    /// Of a permanent video.
    pub(crate) title: String,
    pub(crate) introduction: String,
}

impl Media {
    /// Temporary media without content, as the control surface makes it.
    pub(crate) fn empty(kind: MediaKind, now_ms: u64) -> Self {
        Self {
            kind,
            name: format!("{}.bin", kind.name()),
            content_type: "application/octet-stream".to_owned(),
            bytes: Bytes::new(),
            created_at_ms: now_ms,
            is_permanent: false,
            title: String::new(),
            introduction: String::new(),
        }
    }

    fn is_kept(&self, now_ms: u64) -> bool {
        self.is_permanent || now_ms < self.created_at_ms + KEPT_MS
    }
}

/// All media of one app, by media id.
#[derive(Debug, Default)]
pub(crate) struct MediaStore {
    kept: BTreeMap<String, Media>,
    bytes: usize,
}

impl MediaStore {
    /// Keeps a file under a new id; -1 where the simulator has no room.
    pub(crate) fn keep(
        &mut self,
        media: Media,
        chance: &dyn Environment,
    ) -> Result<String, Refusal> {
        let id = chance.letters(43);
        self.keep_as(&id, media)?;
        Ok(id)
    }

    /// Keeps a file under a given id; -1 where the simulator has no room.
    pub(crate) fn keep_as(&mut self, id: &str, media: Media) -> Result<(), Refusal> {
        let bytes = self.bytes + media.bytes.len();
        if self.kept.len() >= MAX_KEPT || bytes > MAX_KEPT_BYTES {
            return Err(Refusal::because(-1, "system error, the simulator is full"));
        }
        self.bytes = bytes;
        if let Some(former) = self.kept.insert(id.to_owned(), media) {
            self.bytes -= former.bytes.len();
        }
        Ok(())
    }

    /// Media that is still kept: 40007 otherwise.
    pub(crate) fn find(&self, id: &str, now_ms: u64) -> Result<&Media, Refusal> {
        let media = self.kept.get(id).filter(|media| media.is_kept(now_ms));
        media.ok_or_else(|| Refusal::of(40007))
    }

    /// Whether media is kept and is of one of these kinds: 40007 otherwise.
    pub(crate) fn check(&self, id: &str, kinds: &[MediaKind], now_ms: u64) -> Result<(), Refusal> {
        let media = self.find(id, now_ms)?;
        if kinds.contains(&media.kind) {
            Ok(())
        } else {
            Err(Refusal::of(40007))
        }
    }

    /// Forgets permanent material: 40007 where there is none.
    pub(crate) fn forget(&mut self, id: &str) -> Result<(), Refusal> {
        match self.kept.get(id) {
            Some(media) if media.is_permanent => {
                self.bytes -= media.bytes.len();
                self.kept.remove(id);
                Ok(())
            }
            _ => Err(Refusal::of(40007)),
        }
    }

    /// Permanent material of one kind, with its ids.
    pub(crate) fn permanent(&self, kind: MediaKind) -> impl Iterator<Item = (&str, &Media)> {
        let wanted = move |media: &Media| media.is_permanent && media.kind == kind;
        let all = self.kept.iter().map(|(id, media)| (id.as_str(), media));
        all.filter(move |(_, media)| wanted(media))
    }
}
