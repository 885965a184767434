// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A file's bytes, a detached signature and a public key to yes or no: Ed25519 in the files of minisign and signify.

use minisign_verify::{PublicKey, Signature};

/// Whether the key's owner signed exactly these bytes. Both texts are as `minisign -G` and `minisign -S` write them; the
/// trusted comment, which is signed too, comes back.
///
/// # Errors
/// Which of the two texts is none, or why the signature does not hold.
pub fn check(bytes: &[u8], signature: &str, key: &str) -> Result<String, String> {
    let key = PublicKey::decode(key).or_else(|_| PublicKey::from_base64(key.trim()));
    let key = key.map_err(|_| "the key is not a public key as 'minisign -G' writes it".to_string())?;
    let signature = Signature::decode(signature)
        .map_err(|_| "the signature is not one as 'minisign -S' writes it".to_string())?;
    key.verify(bytes, &signature, false).map_err(|error| match error {
        minisign_verify::Error::UnexpectedKeyId => "another key signed it".to_string(),
        minisign_verify::Error::InvalidSignature => "the signature is not of these bytes".to_string(),
        other => other.to_string(),
    })?;
    Ok(signature.trusted_comment().to_string())
}
