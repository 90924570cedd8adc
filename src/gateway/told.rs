//! What a process was told of who takes the money, and whether the installation agrees.

use std::net::IpAddr;

use anyhow::Context;
use pipeline::store::{GatewayKind, KnownGateway};
use reqwest::Url;

use super::{described, share};
use crate::{
    cli::payment::PaymentArgs,
    exit::{Exit, Refusal},
};

/// What the flags and variables of this process say; `None` where they leave it to the installation.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) url: Option<String>,
    pub(super) currency: Option<String>,
    /// Of 10,000 codes that the simulator approves.
    pub(super) share: Option<u32>,
}

impl Told {
    /// Reads flags and variables.
    ///
    /// # Errors
    /// When one of them cannot be used, or they contradict each other; they are named.
    pub(super) fn new(args: &PaymentArgs) -> anyhow::Result<Self> {
        let of_the_simulator = [
            ("--success-rate", "SUCCESS_RATE", args.success_rate.map(|rate| rate.to_string())),
            (
                "--payment-latency-ms",
                "PAYMENT_LATENCY_MS",
                (args.payment_latency_ms > 0).then(|| args.payment_latency_ms.to_string()),
            ),
        ];
        if let Some(url) = &args.gateway
            && let Some((flag, variable, value)) =
                of_the_simulator.into_iter().find_map(|(flag, variable, value)| Some((flag, variable, value?)))
        {
            let message = format!(
                "{flag} {value} is for the simulator, and --gateway {url:?} names a payment provider, which decides for itself: \
                 leave one of them out (they also come from ORDERSTREAM_{variable} and ORDERSTREAM_GATEWAY)"
            );
            return Err(Refusal::new(Exit::Usage, message).into());
        }
        Ok(Self {
            url: match &args.gateway {
                Some(url) => Some(plain_text(&provider_url(url, args.allow_plain_gateway)?)),
                None => None,
            },
            currency: args.currency.clone(),
            share: args.success_rate.map(share).transpose()?,
        })
    }

    /// Whether anything was said.
    pub(super) fn is_anything(&self) -> bool {
        self.url.is_some() || self.currency.is_some() || self.share.is_some()
    }

    /// Whether it fits the gateway that takes new payments.
    ///
    /// # Errors
    /// When it does not: both are named, and the command that would make it true.
    pub(super) fn agree(&self, installed: &KnownGateway, known: &[KnownGateway]) -> Result<(), String> {
        let Some(said) = self.contradiction(installed) else { return Ok(()) };
        let moved = match (&self.url, installed.url()) {
            (Some(told), Some(url)) if told != url => {
                format!("if that is another address of {0}: orderstream provider move {0} {told}; ", installed.name)
            }
            _ => String::new(),
        };
        Err(format!(
            "new payments of this installation are taken by {}, but this process was started with {said}. Who takes the \
             money is not for a process to say: leave that out; {moved}or change it for all of them: {}",
            described(installed),
            self.command(installed, known),
        ))
    }

    /// What contradicts the gateway that takes new payments, as it was said.
    fn contradiction(&self, installed: &KnownGateway) -> Option<String> {
        let said = match (&installed.kind, &self.url, self.share) {
            (GatewayKind::Http { url }, Some(told), _) if url.as_ref() != Some(told) => format!("--gateway {told}"),
            (GatewayKind::Simulator { .. }, Some(told), _) => format!("--gateway {told}"),
            (GatewayKind::Http { .. }, None, Some(share)) => format!("--success-rate {}", f64::from(share) / 10_000.0),
            (GatewayKind::Simulator { approved_of_10_000 }, None, Some(share))
                if *approved_of_10_000 != Some(share) =>
            {
                format!("--success-rate {}", f64::from(share) / 10_000.0)
            }
            _ => match &self.currency {
                Some(currency) if installed.currency.as_ref() != Some(currency) => format!("--currency {currency}"),
                _ => return None,
            },
        };
        Some(said)
    }

    /// The command that would make what was told true.
    fn command(&self, installed: &KnownGateway, known: &[KnownGateway]) -> String {
        let mut command = "orderstream provider set".to_owned();
        match (&self.url, &installed.kind, self.share) {
            (Some(url), _, _) | (None, GatewayKind::Http { url: Some(url) }, None) => {
                command += &format!(" {url}");
                if provider_url(url, false).is_err() {
                    command += " --allow-plain-gateway";
                }
            }
            (None, _, share) => {
                let approved = match installed.kind {
                    GatewayKind::Simulator { approved_of_10_000 } => approved_of_10_000,
                    GatewayKind::Http { .. } => None,
                };
                command += " --simulator";
                if let Some(share) = share.or(approved) {
                    command += &format!(" --success-rate {}", f64::from(share) / 10_000.0);
                }
                if known.iter().chain([installed]).any(is_provider) {
                    command += " --uncharged";
                }
            }
        }
        if let Some(currency) = self.currency.as_ref().or(installed.currency.as_ref()) {
            command += &format!(" --currency {currency}");
        }
        command
    }
}

/// Whether somebody is charged by it.
pub fn is_provider(gateway: &KnownGateway) -> bool {
    matches!(gateway.kind, GatewayKind::Http { .. })
}

/// A URL as it is stored: without a slash at its end.
pub fn plain_text(url: &Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}

/// Reads the URL of a provider. Keys and amounts do not travel in plain text, but within a machine, or where somebody
/// says that they may.
///
/// # Errors
/// When it is no such URL.
pub fn provider_url(text: &str, allow_plain: bool) -> anyhow::Result<Url> {
    let refuse = |why: &str| Err(Refusal::new(Exit::Usage, format!("--gateway {text:?}: {why}")).into());
    let Ok(url) = Url::parse(text).context("no URL") else {
        return refuse("not a URL such as https://payments.example.com/v1");
    };
    if !url.username().is_empty() || url.password().is_some() {
        // Not said with the text: it holds a secret.
        let message = "--gateway must not hold credentials: set ORDERSTREAM_GATEWAY_KEY";
        return Err(Refusal::new(Exit::Usage, message).into());
    }
    match url.scheme() {
        _ if url.query().is_some() || url.fragment().is_some() => refuse("must have no query and no fragment"),
        "https" => Ok(url),
        "http" if allow_plain || is_loopback(&url) => Ok(url),
        "http" => refuse("plain http to another machine; use https, or accept it with --allow-plain-gateway"),
        _ => refuse("must begin with https:// or http://"),
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_leaves_the_machine_only_when_somebody_says_so() {
        for url in ["https://pay.example/v1", "http://127.0.0.1:1/", "http://[::1]:1", "http://localhost:80/x"] {
            assert!(provider_url(url, false).is_ok(), "{url}");
        }
        assert!(provider_url("http://pay.example", true).is_ok());
        let wrong =
            ["", "pay.example", "http://pay.example", "http://localhost.example", "ftp://127.0.0.1", "file:///x"];
        for url in wrong.into_iter().chain(["https://u:secret@pay.example", "https://pay.example/?a=b", "https://p/#f"])
        {
            let error = provider_url(url, false).expect_err(url).to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
