//! What a remote procedure is, apart from any transport: a number, a name, a request and a response.

use crate::codec::{self, DecodeError};

/// Something that is sent whole. Control messages use [`crate::control_message!`]; hot records write their own layout.
pub trait Message: Sized + Send + Sync + 'static {
    /// Its bytes.
    fn encode(&self) -> Vec<u8>;

    /// The message in these bytes, all of them.
    ///
    /// # Errors
    /// The bytes are not one.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError>;
}

/// A procedure that one process offers to others.
pub trait Method: 'static {
    /// Wire identity: append, never renumber, never reuse.
    const ID: u16;
    /// Snake-case word for logs and metric labels.
    const NAME: &'static str;
    /// Largest request, encoded.
    const REQUEST_BYTES_MAX: usize = codec::CONTROL_BYTES_MAX;
    /// Largest response (or item of a subscription), encoded.
    const RESPONSE_BYTES_MAX: usize = codec::CONTROL_BYTES_MAX;
    /// What the caller sends.
    type Request: Message;
    /// What comes back: once for a call, again and again for a subscription.
    type Response: Message;
}

impl Message for () {
    fn encode(&self) -> Vec<u8> {
        Vec::new()
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        match bytes.len() {
            0 => Ok(()),
            extra => Err(DecodeError::Trailing { extra, kind: "()" }),
        }
    }
}

/// Makes serde types control messages: encoded by [`crate::codec`].
#[macro_export]
macro_rules! control_message {
    ($($message:ty),+ $(,)?) => {$(
        impl $crate::rpc::Message for $message {
            fn encode(&self) -> Vec<u8> {
                $crate::codec::encode(self)
            }

            fn decode(bytes: &[u8]) -> Result<Self, $crate::codec::DecodeError> {
                $crate::codec::decode(bytes)
            }
        }
    )+};
}
