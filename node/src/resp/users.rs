//! Who a password belongs to.

use std::fs;

use super::RespFault;
use super::config::RespUser;
use super::values::{Names, Values};

/// A client that may read and write.
#[derive(Clone, Debug)]
pub(super) struct Client {
    /// Empty without passwords.
    pub(super) tenant: String,
    /// How its keys are named.
    pub(super) names: Names,
}

/// All passwords, as digests: comparing them takes the same time wherever they differ.
#[derive(Debug)]
pub(super) struct Users {
    known: Vec<(blake3::Hash, Client)>,
    /// Everybody, when nobody has a password.
    open: Option<Client>,
}

impl Users {
    /// Reads the password files.
    pub(super) fn read(users: &[RespUser], values: &Values) -> Result<Self, RespFault> {
        let open = users.is_empty().then(|| Client { tenant: String::new(), names: values.names("") });
        let mut known = Vec::new();
        for RespUser { tenant, password_file } in users {
            let fault = |source| RespFault::File { path: password_file.clone(), source };
            let text = fs::read_to_string(password_file).map_err(fault)?;
            let password = text.trim_end_matches(['\r', '\n']);
            let digest = blake3::hash(password.as_bytes());
            if password.is_empty() || known.iter().any(|(other, _)| *other == digest) {
                return Err(RespFault::Password { path: password_file.clone() });
            }
            let tenant = tenant.to_string();
            known.push((digest, Client { names: values.names(&format!("resp:{tenant}")), tenant }));
        }
        Ok(Self { known, open })
    }

    /// Who a client is that has said nothing.
    pub(super) fn anybody(&self) -> Option<&Client> {
        self.open.as_ref()
    }

    /// Whose password this is. A name, if one is given, has to be the tenant's, or `default`.
    pub(super) fn find(&self, name: Option<&[u8]>, password: &[u8]) -> Option<&Client> {
        let digest = blake3::hash(password);
        let (_, client) = self.known.iter().find(|(known, _)| *known == digest)?;
        let fits = name.is_none_or(|name| name == b"default" || name == client.tenant.as_bytes());
        fits.then_some(client)
    }
}
