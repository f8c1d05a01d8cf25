//! The AES envelope (消息加解密说明): AES-256-CBC over random bytes, length, message and receiver id,
//! padded to blocks of 32.
//!
//! CBC alone authenticates nothing, so callers check the signature over the ciphertext first. Beyond
//! that every way in which a ciphertext can be wrong looks the same from outside, and the padding is
//! checked without branching on its bytes: nobody learns a plaintext by asking.

use std::fmt;
use std::ops::Range;

use aes::{Aes256Dec, Aes256Enc};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cbc::cipher::block_padding::NoPadding;
use cbc::cipher::{BlockModeDecrypt as _, BlockModeEncrypt as _, InnerIvInit as _, KeyInit as _};
use subtle::{ConstantTimeEq as _, ConstantTimeGreater as _};
use zeroize::Zeroizing;

use crate::secret::EncodingAesKey;

/// AES works on blocks of 16 bytes.
const BLOCK: usize = 16;
/// WeChat pads to multiples of 32, twice AES's block.
const PADDED_TO: usize = 32;
/// Random bytes and length in front of the message.
const HEADER: usize = 16 + 4;

/// A ciphertext that is not for this key and receiver, or not a ciphertext at all. There is one value
/// on purpose.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the ciphertext can't be opened")]
pub struct CipherError;

/// An account's key, expanded once and used for every callback.
#[derive(Clone)]
pub struct MessageCipher {
    encryptor: Aes256Enc,
    decryptor: Aes256Dec,
    /// The first half of the key is the initial vector of every message.
    vector: Zeroizing<[u8; BLOCK]>,
}

impl MessageCipher {
    /// Expands the key.
    pub fn new(key: &EncodingAesKey) -> Self {
        let mut vector = Zeroizing::new([0; BLOCK]);
        vector.copy_from_slice(&key.bytes()[..BLOCK]);
        Self {
            encryptor: Aes256Enc::new(key.bytes().into()),
            decryptor: Aes256Dec::new(key.bytes().into()),
            vector,
        }
    }

    /// Seals `plain` for `receive_id` into Base64. The random bytes must be new for every message.
    pub fn encrypt(&self, random: [u8; 16], plain: &[u8], receive_id: &str) -> String {
        let length = HEADER + plain.len() + receive_id.len();
        let padding = PADDED_TO - length % PADDED_TO;
        let mut buffer = Vec::with_capacity(length + padding);
        buffer.extend_from_slice(&random);
        // Replies and bodies are bounded far below 4 GiB; a longer one would not open again.
        buffer.extend_from_slice(&u32::try_from(plain.len()).unwrap_or(u32::MAX).to_be_bytes());
        buffer.extend_from_slice(plain);
        buffer.extend_from_slice(receive_id.as_bytes());
        // 1..=32 always fits a byte.
        buffer.resize(length + padding, padding as u8);

        let vector = (&*self.vector).into();
        let sealed = cbc::Encryptor::inner_iv_init(&self.encryptor, vector)
            .encrypt_padded::<NoPadding>(&mut buffer, length + padding);
        debug_assert!(sealed.is_ok(), "the buffer is whole blocks");
        STANDARD.encode(&buffer)
    }

    /// Opens what [`encrypt`](Self::encrypt) made for the same receiver.
    ///
    /// # Errors
    ///
    /// [`CipherError`] for everything that can be wrong.
    pub fn decrypt(&self, encrypt: &str, receive_id: &str) -> Result<Vec<u8>, CipherError> {
        let ciphertext = STANDARD.decode(encrypt).map_err(|_| CipherError)?;
        let plain = self.open(ciphertext).ok_or(CipherError)?;
        if !plain.is_for(receive_id) {
            return Err(CipherError);
        }
        Ok(plain.into_message())
    }

    /// Decrypts in place and takes the envelope apart; `None` when it is not whole.
    pub(crate) fn open(&self, ciphertext: Vec<u8>) -> Option<Plain> {
        let mut bytes = ciphertext;
        if bytes.is_empty() || !bytes.len().is_multiple_of(BLOCK) {
            return None;
        }
        let vector = (&*self.vector).into();
        cbc::Decryptor::inner_iv_init(&self.decryptor, vector)
            .decrypt_padded::<NoPadding>(&mut bytes)
            .ok()?;
        let end = bytes.len() - padding(&bytes)?;
        let length = bytes[..end].get(16..HEADER)?;
        let length = u32::from_be_bytes(length.try_into().ok()?);
        let message = HEADER..HEADER.checked_add(usize::try_from(length).ok()?)?;
        if message.end > end {
            return None;
        }
        Some(Plain {
            bytes,
            message,
            end,
        })
    }
}

impl fmt::Debug for MessageCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MessageCipher(…)")
    }
}

/// An opened envelope: `random | length | message | receiver id | padding`.
pub(crate) struct Plain {
    bytes: Vec<u8>,
    message: Range<usize>,
    end: usize,
}

impl Plain {
    /// Whether it names this receiver, in constant time.
    pub(crate) fn is_for(&self, receive_id: &str) -> bool {
        self.bytes[self.message.end..self.end]
            .ct_eq(receive_id.as_bytes())
            .into()
    }

    /// The message alone, in the same memory.
    pub(crate) fn into_message(self) -> Vec<u8> {
        let Plain {
            mut bytes, message, ..
        } = self;
        bytes.truncate(message.end);
        bytes.drain(..message.start);
        bytes
    }
}

/// The length of the padding, 1 to 32, or `None`; looks at the last 32 bytes in any case.
fn padding(bytes: &[u8]) -> Option<usize> {
    let last = *bytes.last()?;
    let mut valid = !last.ct_eq(&0) & !last.ct_gt(&(PADDED_TO as u8));
    let mut seen = 0;
    for (position, byte) in (1_u8..=PADDED_TO as u8).zip(bytes.iter().rev()) {
        // Beyond the padding any byte will do.
        valid &= position.ct_gt(&last) | byte.ct_eq(&last);
        seen = position;
    }
    valid &= !last.ct_gt(&seen);
    bool::from(valid).then_some(usize::from(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cipher() -> MessageCipher {
        let key = EncodingAesKey::parse("abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG").unwrap();
        MessageCipher::new(&key)
    }

    /// Encrypts bytes that need not be an envelope.
    fn raw(plain: &[u8]) -> String {
        let cipher = cipher();
        let mut buffer = plain.to_vec();
        cbc::Encryptor::inner_iv_init(&cipher.encryptor, (&*cipher.vector).into())
            .encrypt_padded::<NoPadding>(&mut buffer, plain.len())
            .unwrap();
        STANDARD.encode(buffer)
    }

    /// 16 random bytes, a length, a message and "wx01", before the padding.
    fn envelope(length: u32, message: &[u8], padding: &[u8]) -> String {
        raw(&[
            b"0123456789abcdef",
            &length.to_be_bytes()[..],
            message,
            b"wx01",
            padding,
        ]
        .concat())
    }

    #[test]
    fn opens_what_it_sealed_at_every_padding() {
        for length in 0..100 {
            let plain = vec![b'x'; length];
            let sealed = cipher().encrypt([7; 16], &plain, "wx0123456789abcdef");
            assert_eq!(cipher().decrypt(&sealed, "wx0123456789abcdef"), Ok(plain));
        }
    }

    #[test]
    fn padding_oracle_sees_one_failure() {
        // 20 + 4 + 4 = 28 bytes and 4 of padding make a good one.
        assert_eq!(
            cipher().decrypt(&envelope(4, b"good", &[4; 4]), "wx01"),
            Ok(b"good".to_vec())
        );
        let wrong = [
            ("zero padding", envelope(4, b"good", &[0; 4])),
            ("padding of 33", envelope(4, b"good", &[33; 4])),
            ("uneven padding", envelope(4, b"good", &[4, 3, 4, 4])),
            ("padding beyond the start", raw(&[32; 16])),
            ("nothing but padding", raw(&[32; 32])),
            ("length beyond the end", envelope(9, b"good", &[4; 4])),
            ("length of 4 GiB", envelope(u32::MAX, b"good", &[4; 4])),
            ("another receiver", envelope(3, b"good", &[4; 4])),
            ("no blocks", String::new()),
            ("half a block", STANDARD.encode([0; 24])),
            ("no base64", "*".repeat(64)),
            ("base64 with spare bits", "B".repeat(43) + "="),
            (
                "a line break",
                envelope(4, b"good", &[4; 4]).replacen('=', "\n=", 1),
            ),
        ];
        for (name, sealed) in wrong {
            assert_eq!(
                cipher().decrypt(&sealed, "wx01"),
                Err(CipherError),
                "{name}"
            );
        }
    }

    #[test]
    fn padding_is_1_to_32_equal_bytes() {
        for length in 1..=32 {
            let mut bytes = [0xff; 48];
            bytes[48 - length..].fill(length as u8);
            assert_eq!(padding(&bytes), Some(length));
            bytes[48 - length] ^= 0x80;
            assert_eq!(padding(&bytes), None, "{length}");
        }
        assert_eq!(padding(&[0; 48]), None);
        assert_eq!(padding(&[33; 48]), None);
        assert_eq!(padding(&[17; 16]), None);
        assert_eq!(padding(&[]), None);
    }

    #[test]
    fn every_flipped_bit_of_the_last_blocks_is_survived() {
        let sealed = STANDARD
            .decode(cipher().encrypt([7; 16], b"hello", "wx01"))
            .unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // A bit of the first block changes only the random bytes' own block and the next.
            let opened = cipher().decrypt(&STANDARD.encode(flipped), "wx01");
            assert_ne!(opened, Ok(b"hello".to_vec()), "bit {bit}");
        }
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", cipher()), "MessageCipher(…)");
    }
}
