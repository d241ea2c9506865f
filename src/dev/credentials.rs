//! Credentials for the local control plane.
//!
//! Owns: the tokens, the ServiceAccount key and the kubeconfigs. They are files in the state directory, readable by its
//! owner only, and stay the same across restarts. Does not own: certificates; kube-apiserver signs its own.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use thiserror::Error;

/// The certificate that kube-apiserver generates for itself, followed by the certificate of its CA.
pub(super) const CA_FILE: &str = "pki/apiserver.crt";
/// The users of the API server, one per line: `token,user,uid,"group,…"`.
pub(super) const TOKENS_FILE: &str = "tokens.csv";
/// Signs ServiceAccount tokens.
pub(super) const SIGNING_KEY: &str = "service-account.key";
/// Verifies ServiceAccount tokens.
pub(super) const PUBLIC_KEY: &str = "service-account.pub";

/// The user of the replicas, with the same name as in a cluster, so that the same RBAC bindings apply.
pub const ROLLCALL_USER: &str = "system:serviceaccount:rollcall-system:rollcall";

/// The bytes before the point in the `SubjectPublicKeyInfo` of a P-256 key (RFC 5480 §2): sequence, algorithm
/// id-ecPublicKey with curve prime256v1, bit string of 66 bytes.
const P256_PUBLIC_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// The credentials could not be generated or stored.
#[derive(Debug, Error)]
pub enum CredentialsError {
    /// A file could not be read or written.
    #[error("cannot use {path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The system returned no random numbers, or no key could be generated from them.
    #[error("cannot generate a key: the system returned no random numbers")]
    Random,
}

/// The tokens of the two users.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// Token of `admin`, which has all rights.
    pub admin: String,
    /// Token of [`ROLLCALL_USER`], which has the rights that RBAC grants.
    pub rollcall: String,
}

impl Credentials {
    /// Reads the credentials in `dir` and generates missing ones.
    ///
    /// # Errors
    /// When a file cannot be used, or the system returns no random numbers.
    pub fn load_or_make(dir: &Path) -> Result<Self, CredentialsError> {
        let made = Self {
            admin: token(&dir.join("admin.token"))?,
            rollcall: token(&dir.join("rollcall.token"))?,
        };
        let users = format!(
            "{},admin,admin,system:masters\n\
             {},{ROLLCALL_USER},rollcall,\"system:serviceaccounts,system:serviceaccounts:rollcall-system\"\n",
            made.admin, made.rollcall
        );
        write_private(&dir.join(TOKENS_FILE), &users)?;
        service_account_key(dir)?;
        Ok(made)
    }
}

/// A self-contained kubeconfig: address, CA and token are inline.
#[must_use]
pub fn kubeconfig(url: &str, ca: &[u8], user: &str, token: &str) -> String {
    let ca = BASE64.encode(ca);
    format!(
        "apiVersion: v1\n\
         kind: Config\n\
         current-context: rollcall-dev\n\
         contexts: [{{name: rollcall-dev, context: {{cluster: rollcall-dev, user: \"{user}\"}}}}]\n\
         clusters: [{{name: rollcall-dev, cluster: {{server: \"{url}\", certificate-authority-data: {ca}}}}}]\n\
         users: [{{name: \"{user}\", user: {{token: \"{token}\"}}}}]\n"
    )
}

/// Writes a file atomically, readable by its owner only.
///
/// # Errors
/// When the file cannot be written.
pub fn write_private(path: &Path, text: &str) -> Result<(), CredentialsError> {
    let part = path.with_extension("part");
    let write = || {
        let mut options = OpenOptions::new();
        let mut file = options.create(true).write(true).truncate(true).mode(0o600).open(&part)?;
        file.write_all(text.as_bytes())?;
        fs::rename(&part, path)
    };
    write().map_err(|source| CredentialsError::File { path: path.to_owned(), source })
}

/// Reads the token in this file, or generates one: 128 random bits in hexadecimal.
fn token(path: &Path) -> Result<String, CredentialsError> {
    if let Ok(kept) = fs::read_to_string(path) {
        return Ok(kept);
    }
    let mut bytes = [0_u8; 16];
    SystemRandom::new().fill(&mut bytes).map_err(|_| CredentialsError::Random)?;
    let token = format!("{:032x}", u128::from_be_bytes(bytes));
    write_private(path, &token)?;
    Ok(token)
}

/// Generates an ECDSA P-256 key as two PEM files, unless they exist. kube-apiserver accepts ECDSA for both.
fn service_account_key(dir: &Path) -> Result<(), CredentialsError> {
    let (private, public) = (dir.join(SIGNING_KEY), dir.join(PUBLIC_KEY));
    if private.is_file() && public.is_file() {
        return Ok(());
    }
    let random = SystemRandom::new();
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let key =
        EcdsaKeyPair::generate_pkcs8(algorithm, &random).map_err(|_| CredentialsError::Random)?;
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), &random)
        .map_err(|_| CredentialsError::Random)?;
    let point = [&P256_PUBLIC_PREFIX, pair.public_key().as_ref()].concat();
    write_private(&private, &pem("PRIVATE KEY", key.as_ref()))?;
    write_private(&public, &pem("PUBLIC KEY", &point))
}

/// RFC 7468 text: base64 in lines of 64 characters between its labels.
fn pem(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    for (at, character) in BASE64.encode(der).chars().enumerate() {
        if at > 0 && at % 64 == 0 {
            text.push('\n');
        }
        text.push(character);
    }
    text + &format!("\n-----END {label}-----\n")
}
