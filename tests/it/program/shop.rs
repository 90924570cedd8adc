//! A shop that sells over a payment provider: the program, the provider, and the HTTP API that takes its callbacks.

use std::collections::BTreeMap;

use pipeline::{message::encode_order, streams::Publisher, topology::StageName};
use serde_json::Value;

use super::{
    Orderstream, Program, Running,
    client::SECRET,
    harness::order,
    provider::{KEY, Provider},
};

/// The program with a provider, and an API that takes its callbacks.
pub(crate) struct Shop {
    pub(crate) program: Program,
    pub(crate) provider: Provider,
    pub(crate) api: Running,
    pub(crate) api_url: String,
    flags: Vec<String>,
}

impl Shop {
    pub(crate) async fn open(products: &[i64], provider_flags: &[&str], worker_flags: &[&str]) -> Self {
        let program = Program::seeded(50, products).await;
        let args = ["serve", "--http", "127.0.0.1:0", "--http-rate", "1000000"];
        let api = Running::spawn(program.command(&args).env("ORDERSTREAM_WEBHOOK_SECRET", SECRET), &args);
        let api_url = format!("http://{}", api.address().await);
        let mut provider = Provider::idle();
        let callback = format!("{api_url}/webhooks/payments");
        let flags = [&["--callback", &callback], provider_flags].concat();
        provider.start_with(&flags, &[("ORDERSTREAM_WEBHOOK_SECRET", SECRET)]).await;
        let flags = ["--gateway", &provider.url, "--claim-idle", "1", "--reconcile-every", "1"];
        let flags = flags.iter().chain(worker_flags).map(|flag| (*flag).to_owned()).collect();
        Self { program, provider, api, api_url, flags }
    }

    /// Workers, and more flags for them.
    pub(crate) fn run(&self, more: &[&str]) -> Running {
        self.faulty(more, "")
    }

    /// The same, with faults at these places.
    pub(crate) fn faulty(&self, more: &[&str], faults: &str) -> Running {
        let args: Vec<&str> =
            ["run"].into_iter().chain(self.flags.iter().map(String::as_str)).chain(more.iter().copied()).collect();
        let mut command = self.program.command(&args);
        Running::spawn(command.env("ORDERSTREAM_GATEWAY_KEY", KEY).env("FAILPOINTS", faults), &args)
    }

    /// What the audit that asks the provider, too, ends with, and what it found.
    pub(crate) async fn audit(&self) -> (Option<i32>, String) {
        let args = ["audit", "--gateway", &self.provider.url];
        let audit = Running::spawn(self.program.command(&args).env("ORDERSTREAM_GATEWAY_KEY", KEY), &args).end().await;
        (audit.code, audit.stdout)
    }

    pub(crate) async fn count(&self, query: &str) -> i64 {
        self.program.stack.value(query).await
    }

    pub(crate) async fn publish(&self, codes: &[String]) {
        let orders: Vec<Vec<u8>> =
            codes.iter().map(|code| encode_order(&order(code, 1, &[(1, 1, 2_500), (2, 1, 7_501)]))).collect();
        let mut publisher =
            Publisher::connect(&self.program.stack.redis, 0, StageName::Reservation).await.expect("Redis");
        for chunk in orders.chunks(1_000) {
            publisher.publish(chunk, None).await.expect("published");
        }
    }

    /// Approved charges in the provider's own ledger, by reference.
    pub(crate) async fn charged(&self) -> BTreeMap<String, usize> {
        let ledger = self.provider.ledger().await;
        let approved = |lines: &Vec<Value>| lines.iter().filter(|line| line["status"] == "approved").count();
        let charges = ledger.iter().filter(|((kind, _), _)| kind == "charge");
        charges.map(|((_, reference), lines)| (reference.clone(), approved(lines))).filter(|(_, n)| *n > 0).collect()
    }
}
