//! How many calls a second the client makes to a provider:
//! `gateway_speed URL [CALLS] [BATCH] [IN_FLIGHT]`, with `orderstream gateway --latency 50` at the URL.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::{TimeVal, TimeValLike},
};
use orderstream::gateway::{HttpGateway, Settings};
use pipeline::{
    domain::{Cents, OrderId},
    gateway::{Charge, ChargeAnswer, Gateway},
};
use reqwest::Url;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let url = Url::parse(&args.next().context("whose URL?")?)?;
    let mut number = |default: u32| args.next().map_or(Ok(default), |text| text.parse());
    let (calls, batch, in_flight) = (number(50_000)?, number(1_000)?, number(256)?);
    orderstream::tls::install();
    let settings = Settings {
        url,
        key: None,
        timeout: Duration::from_secs(5),
        calls_max: usize::try_from(in_flight)?,
        calls_per_second_max: None,
    };
    let gateway = HttpGateway::new(settings, "EUR")?;
    let charge = |number: u32| Charge {
        order_id: OrderId(i64::from(number)),
        reference: format!("SPEED-{number}"),
        amount: Cents::new(3998),
    };
    let begun = Instant::now();
    for first in (0..calls).step_by(usize::try_from(batch)?) {
        let charges: Vec<Charge> = (first..calls.min(first + batch)).map(charge).collect();
        let answers = gateway.charge(&charges).await;
        let unknown = answers.iter().find(|answer| matches!(answer, ChargeAnswer::Unknown(_)));
        ensure!(unknown.is_none(), "{unknown:?}");
    }
    let seconds = begun.elapsed().as_secs_f64();
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let seconds_of = |time: TimeVal| time.num_microseconds() as f64 / 1e6;
    let cpu = seconds_of(usage.user_time()) + seconds_of(usage.system_time());
    println!(
        "{calls} calls in {seconds:.2} s: {:.0} calls/s, {:.0} µs of CPU each",
        f64::from(calls) / seconds,
        1e6 * cpu / f64::from(calls)
    );
    Ok(())
}
