// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A file's bytes, a detached signature and a public key to yes or no: Ed25519 in the files of minisign and signify.

use minisign_verify::{PublicKey, Signature};

/// The public key that a text is, as `minisign -G` and `signify -G` write it, or its base64 line alone.
pub fn key(text: &str) -> Option<PublicKey> {
    PublicKey::decode(text).or_else(|_| PublicKey::from_base64(text.trim())).ok()
}

/// Whether the key's owner signed exactly these bytes. The signature is a text as `minisign -S` writes it; the trusted comment,
/// which is signed too, comes back.
///
/// # Errors
/// That the text is none, or why the signature does not hold.
pub fn check(bytes: &[u8], signature: &str, key: &PublicKey) -> Result<String, String> {
    let signature = Signature::decode(signature)
        .map_err(|_| "the signature is not one as 'minisign -S' writes it".to_string())?;
    key.verify(bytes, &signature, false).map_err(|error| match error {
        minisign_verify::Error::UnexpectedKeyId => "another key signed it".to_string(),
        minisign_verify::Error::InvalidSignature => "the signature is not of these bytes".to_string(),
        other => other.to_string(),
    })?;
    Ok(signature.trusted_comment().to_string())
}
