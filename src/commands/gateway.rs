//! `orderstream gateway`: a payment provider to try the pipeline with.

use std::time::Duration;

use anyhow::Context;
use pipeline::gateway::Simulator;
use reqwest::Url;
use tokio::net::TcpListener;

use super::shutdown_on_signal;
use crate::{
    cli::gateway::GatewayArgs,
    config::{gateway_key, webhook_secrets},
    exit::{Exit, Refusal},
    output,
    provider::{self, Behaviour, CallbackTarget, Fault, Faults},
};

pub(super) async fn run(args: GatewayArgs) -> anyhow::Result<Exit> {
    let shutdown = shutdown_on_signal()?;
    let refuse = |message: String| anyhow::Error::from(Refusal::new(Exit::Usage, message));
    let key = gateway_key(None)?;
    if key.is_none() && !args.listen.ip().is_loopback() {
        let message = "without ORDERSTREAM_GATEWAY_KEY, only this machine is served: --listen a loopback address";
        return Err(refuse(message.to_owned()));
    }
    let approvals =
        Simulator::new(args.approve, Duration::ZERO).map_err(|error| refuse(format!("--approve: {error}")))?;
    let callback = args.callback.as_deref().map(callback_target).transpose()?;
    let listener = TcpListener::bind(args.listen).await.with_context(|| format!("cannot listen at {}", args.listen))?;
    let url = format!("http://{}", listener.local_addr()?);
    let behaviour = Behaviour {
        key,
        approvals,
        faults: faults(&args),
        latency: args.latency,
        jitter: args.jitter,
        callback,
        callback_after: args.callback_after,
        late_after: args.late_after,
        ledger: args.ledger,
    };
    // Connections wait in the listener's queue until the ledger is read.
    let served = provider::serve(listener, behaviour, &shutdown, || {
        output::text_line(&url)?;
        output::text_line("ready")
    });
    served.await?;
    Ok(Exit::Done)
}

fn faults(args: &GatewayArgs) -> Faults {
    Faults::none(args.seed)
        .with(Fault::Pending, args.pending)
        .with(Fault::Timeouts, args.timeouts)
        .with(Fault::Errors, args.errors)
        .with(Fault::Lost, args.lost)
        .with(Fault::Doubled, args.doubled)
        .with(Fault::Early, args.early)
        .with(Fault::Late, args.late)
        .with(Fault::RefundFailures, args.refund_failures)
}

fn callback_target(url: &str) -> anyhow::Result<CallbackTarget> {
    let refuse = |message: String| anyhow::Error::from(Refusal::new(Exit::Usage, message));
    let url = Url::parse(url).ok().filter(|url| ["http", "https"].contains(&url.scheme())).ok_or_else(|| {
        refuse(format!("--callback {url:?} is no URL such as http://127.0.0.1:8080/webhooks/payments"))
    })?;
    let secret = webhook_secrets()?.into_iter().next();
    let secret = secret.ok_or_else(|| refuse("--callback needs ORDERSTREAM_WEBHOOK_SECRET".to_owned()))?;
    Ok(CallbackTarget { url, secret })
}
