//! Which gateway the flags ask for.

use std::{net::IpAddr, num::NonZeroU32, sync::Arc, time::Duration};

use anyhow::Context;
use pipeline::{
    gateway::{Gateway, Gateways, Simulator},
    payments::PaymentLimits,
};
use reqwest::Url;

use super::{CallError, GatewayFigures, HttpGateway, Settings};
use crate::{
    cli::payment::PaymentArgs,
    config::gateway_key,
    exit::{Exit, Refusal},
};

/// The gateways that the flags describe: the provider if one is named, else the simulator. Calls of a provider are
/// counted in `figures`.
///
/// # Errors
/// When a flag or variable has a value that cannot be used; it is named.
pub fn gateways(args: &PaymentArgs, figures: &GatewayFigures) -> anyhow::Result<Gateways> {
    let first: Arc<dyn Gateway> = match &args.gateway {
        Some(url) => Arc::new(provider(url, args)?.counted_by(figures.clone())),
        None => Arc::new(simulator(args)?),
    };
    Ok(Gateways::new(first))
}

/// How long to wait for money, as the flags say.
pub fn payment_limits(args: &PaymentArgs) -> PaymentLimits {
    PaymentLimits {
        payment_timeout: Duration::from_secs(args.payment_timeout),
        // For its turn, for its answer, and a margin.
        answer_max: Duration::from_secs(2 * args.gateway_timeout + 2),
        refund_wait: Duration::from_secs(args.refund_wait),
        currency: args.currency.clone(),
    }
}

fn provider(url: &str, args: &PaymentArgs) -> anyhow::Result<HttpGateway> {
    let settings = Settings {
        url: provider_url(url, args.allow_plain_gateway)?,
        key: gateway_key()?,
        timeout: Duration::from_secs(args.gateway_timeout),
        calls_max: usize::from(args.gateway_calls),
        calls_per_second_max: NonZeroU32::new(args.gateway_rate),
    };
    HttpGateway::new(settings, &args.currency).map_err(|error| match error {
        CallError::Key(_) => Refusal::new(Exit::Usage, format!("ORDERSTREAM_GATEWAY_KEY: {error}")).into(),
        error => anyhow::Error::new(error).context("no payment provider can be called"),
    })
}

fn simulator(args: &PaymentArgs) -> anyhow::Result<Simulator> {
    Simulator::new(args.success_rate, Duration::from_millis(args.payment_latency_ms))
        .map_err(|error| Refusal::new(Exit::Usage, format!("--success-rate: {error}")).into())
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
