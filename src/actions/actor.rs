//! Who acts.

use pipeline::domain::ActionVia;

/// Who acts, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// For people.
    pub name: String,
    /// By which way.
    pub via: ActionVia,
}

impl Actor {
    /// Whoever runs this process: `user@host`.
    pub fn of_this_process(via: ActionVia) -> Self {
        let uid = nix::unistd::getuid();
        let user = nix::unistd::User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
        let host = nix::unistd::gethostname().unwrap_or_default();
        Self { name: format!("{user}@{}", host.to_string_lossy()), via }
    }

    /// Whoever came over HTTP: the name of the token, if one was needed.
    pub fn of_token(name: Option<&str>, via: ActionVia) -> Self {
        Self { name: name.unwrap_or("anybody on this machine").to_owned(), via }
    }
}
