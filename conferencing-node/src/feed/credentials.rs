//! Who may speak on the port for feeds: users with passwords, and tokens.

use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

/// Shortest password or token.
const SHORTEST: usize = 12;

/// Why credentials cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CredentialsError {
    /// The file cannot be read.
    #[error("feed_credentials: cannot read {path}: {why}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        why: io::Error,
    },
    /// A line is neither.
    #[error(
        "feed_credentials: {path}, line {line}: write USER:PASSWORD or a token without a colon, the password or token \
         with at least {SHORTEST} characters"
    )]
    Line {
        /// The file.
        path: PathBuf,
        /// Its number, from 1.
        line: usize,
    },
    /// There is none.
    #[error("feed_credentials: {path} holds none; write USER:PASSWORD, or a token, on a line of its own")]
    None {
        /// The file.
        path: PathBuf,
    },
}

/// What an `Authorization` header may say, as hashes: comparing those takes as long whatever is wrong.
#[derive(Clone)]
pub(crate) struct Credentials(Vec<[u8; 32]>);

fn hash(scheme: &str, value: &str) -> [u8; 32] {
    let said = format!("{} {value}", scheme.to_ascii_lowercase());
    Sha256::digest(said.as_bytes()).into()
}

impl Credentials {
    /// Reads a file with one on each line; empty lines and lines that begin with `#` say nothing.
    ///
    /// # Errors
    /// [`CredentialsError`] names file and line, and never what is in it.
    pub(crate) fn load(path: &Path) -> Result<Self, CredentialsError> {
        let unreadable = |why| CredentialsError::Unreadable { path: path.into(), why };
        Self::read(&std::fs::read_to_string(path).map_err(unreadable)?, path)
    }

    fn read(text: &str, path: &Path) -> Result<Self, CredentialsError> {
        let lines = text.lines().map(str::trim).enumerate();
        let said = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let one = |(index, line): (usize, &str)| {
            let (user, secret) = line.split_once(':').map_or((None, line), |(user, pass)| (Some(user), pass));
            if secret.chars().count() < SHORTEST || user.is_some_and(str::is_empty) {
                return Err(CredentialsError::Line { path: path.into(), line: index + 1 });
            }
            Ok(match user {
                Some(_) => hash("basic", &STANDARD.encode(line)),
                None => hash("bearer", secret),
            })
        };
        let all = said.map(one).collect::<Result<Vec<_>, _>>()?;
        if all.is_empty() { Err(CredentialsError::None { path: path.into() }) } else { Ok(Self(all)) }
    }

    /// Whether an `Authorization` header holds one of them.
    pub(crate) fn admit(&self, header: &str) -> bool {
        let Some((scheme, value)) = header.trim().split_once(' ') else { return false };
        self.0.contains(&hash(scheme, value.trim()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Credentials, CredentialsError> {
        Credentials::read(text, Path::new("feed.credentials"))
    }

    #[test]
    fn a_user_with_his_password_and_a_token_are_admitted_and_nobody_else() {
        let credentials =
            read("# the platform\n\nplatform:correct horse:battery\n0123456789abcdef\n").expect("good");
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        assert!(credentials.admit(&basic("platform:correct horse:battery")));
        assert!(credentials.admit("bearer 0123456789abcdef"));
        for wrong in [
            basic("platform:correct horse").as_str(),
            &basic("0123456789abcdef"),
            "Bearer platform:correct horse:battery",
            "Bearer",
            "Bearer ",
            "",
            "0123456789abcdef",
        ] {
            assert!(!credentials.admit(wrong), "{wrong}");
        }
    }

    #[test]
    fn short_ones_and_none_are_refused_with_their_line_and_without_what_they_say() {
        for text in ["# a\nuser:short", "# a\nshort", "# a\n:long enough to pass"] {
            let error = read(text).err().expect("refused").to_string();
            assert!(error.contains("line 2") && !error.contains("user:short"), "{error}");
        }
        assert!(matches!(read("# nobody\n"), Err(CredentialsError::None { .. })));
    }
}
