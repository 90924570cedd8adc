//! Mails to customers over SMTP.

use std::time::Duration;

use lettre::{
    Address, AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    message::{Mailbox, MessageBuilder, MultiPart, header::HeaderName, header::HeaderValue},
    transport::smtp::{self, PoolConfig},
};

use super::{
    Failure,
    notice::{Notice, one_line},
    templates::Templates,
};

/// A mail server, and who mails over it come from.
#[derive(Debug)]
pub(crate) struct Mailer {
    server: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

impl Mailer {
    /// Mails from `from` by the server at `url`: `smtp://` is plain, with `?tls=required` by STARTTLS, `smtps://` by TLS.
    ///
    /// # Errors
    /// When the URL cannot be used, or would send its password for everybody to read.
    pub(crate) fn new(url: &str, from: Mailbox, connections: u32, timeout: Duration) -> Result<Self, String> {
        if url.starts_with("smtp://") && !url.contains("tls=required") && has_password(url) && !is_loopback(url) {
            return Err("it would send its password unencrypted: use smtps://, or add ?tls=required".to_owned());
        }
        let server = AsyncSmtpTransport::<Tokio1Executor>::from_url(url).map_err(|error| error.to_string())?;
        let pool = PoolConfig::new().max_size(connections).idle_timeout(Duration::from_secs(30));
        Ok(Self { server: server.pool_config(pool).timeout(Some(timeout)).build(), from })
    }

    /// A mail without a text yet, that nobody answers. The same `id` is the same mail.
    pub(crate) fn message(&self, id: &str, subject: String) -> MessageBuilder {
        Message::builder()
            .from(self.from.clone())
            .subject(subject)
            .message_id(Some(format!("<{id}@{}>", self.from.email.domain())))
            // Nobody's absence note is wanted in return.
            .raw_header(HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".to_owned()))
    }

    /// Sends a mail.
    pub(crate) async fn send(&self, message: Message) -> Result<(), Failure> {
        let addresses = message.envelope().to().to_vec();
        match self.server.send(message).await {
            Ok(_) => Ok(()),
            Err(error) => Err(failure(&error, &addresses)),
        }
    }
}

/// Sends mails to customers.
#[derive(Debug)]
pub(super) struct Mail {
    mailer: Mailer,
    templates: Templates,
}

impl Mail {
    pub(super) fn new(mailer: Mailer, templates: Templates) -> Self {
        Self { mailer, templates }
    }

    /// Sends the mail about this to the customer.
    pub(super) async fn send(&self, notice: &Notice, email: Option<&str>) -> Result<(), Failure> {
        let Some(email) = email.map(str::trim).filter(|email| !email.is_empty()) else {
            return Err(Failure::Hopeless("the customer has no mail address".to_owned()));
        };
        let address: Address = email
            .parse()
            .map_err(|error| Failure::Hopeless(format!("the customer's mail address cannot be used: {error}")))?;
        self.mailer.send(self.message(notice, address)?).await
    }

    fn message(&self, notice: &Notice, address: Address) -> Result<Message, Failure> {
        let hopeless = |error: &dyn std::fmt::Display| Failure::Hopeless(format!("no mail could be made: {error}"));
        let text = self.templates.render(notice).map_err(|error| hopeless(&error))?;
        let name = Some(one_line(&notice.customer_name)).filter(|name| !name.is_empty());
        let message = self
            .mailer
            .message(&notice.id, text.subject)
            .to(Mailbox::new(name, address))
            .multipart(MultiPart::alternative_plain_html(text.plain, text.html));
        message.map_err(|error| hopeless(&error))
    }
}

/// What to do about a server's answer, or its absence.
fn failure(error: &smtp::Error, addresses: &[Address]) -> Failure {
    let is_ascii = addresses.iter().all(|address| AsRef::<str>::as_ref(address).is_ascii());
    // Servers repeat addresses, and the log is no place for them.
    let text = addresses
        .iter()
        .fold(describe(error), |text, address| text.replace(AsRef::<str>::as_ref(address), "the recipient"));
    let code = error.status().map(|code| code.to_string());
    match code.as_deref() {
        // Not this mail's fault: the server goes, is busy, or does not know us. With the next mail it is the same.
        Some("421" | "454" | "530" | "534" | "535" | "538") => Failure::Away(text),
        Some(_) if error.is_permanent() => Failure::Hopeless(text),
        Some(_) => Failure::Refused(text),
        // The server cannot take addresses beyond ASCII.
        None if error.is_client() && !is_ascii => Failure::Hopeless(text),
        None => Failure::Away(text),
    }
}

/// An error with its causes, which lettre keeps apart.
fn describe(error: &smtp::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(deeper) = cause {
        let deeper_text = deeper.to_string();
        if !text.contains(&deeper_text) {
            text = format!("{text}: {deeper_text}");
        }
        cause = deeper.source();
    }
    text
}

/// Whether an URL names a user with a password.
fn has_password(url: &str) -> bool {
    authority(url).rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
}

/// Whether an URL names this machine.
fn is_loopback(url: &str) -> bool {
    let host = authority(url).rsplit_once('@').map_or(authority(url), |(_, host)| host);
    ["localhost", "127.0.0.1", "[::1]"]
        .iter()
        .any(|own| host.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with(':')))
}

fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    // A pool of connections has a task that tends it.
    #[tokio::test]
    async fn a_password_is_sent_unencrypted_to_this_machine_only() {
        let usable = |url: &str| {
            let from = "shop@example.com".parse().expect("an address");
            Mailer::new(url, from, 1, Duration::from_secs(1)).is_ok()
        };
        for url in [
            "smtp://mail.example.com",
            "smtp://u:p@localhost:2525",
            "smtp://u:p@127.0.0.1",
            "smtp://u:p@mail.example.com?tls=required",
            "smtps://u:p@mail.example.com",
        ] {
            assert!(usable(url), "{url}");
        }
        for url in [
            "smtp://u:p@mail.example.com",
            "smtp://u:p@localhost.example.com",
            "smtp://u:p@mail.example.com?tls=opportunistic",
            "http://mail.example.com",
            "mail.example.com",
            "",
        ] {
            assert!(!usable(url), "{url}");
        }
    }
}
