//! `orderstream gateway` as a process, and a client of it.

use std::{collections::BTreeMap, fs::File, time::Duration};

use orderstream::gateway::{HttpGateway, Settings};
use pipeline::{
    domain::{Cents, OrderId},
    gateway::{Charge, Return},
};
use reqwest::Url;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Child,
};

use super::{Local, Orderstream};

/// What every client and provider of these tests is told.
pub(crate) const KEY: &str = super::GATEWAY_KEY;

/// A folder with a ledger, and the provider's process while it runs.
pub(crate) struct Provider {
    pub(crate) local: Local,
    pub(crate) url: String,
    process: Option<Child>,
}

impl Provider {
    /// An empty folder.
    pub(crate) fn idle() -> Self {
        orderstream::tls::install();
        Self { local: Local::new(), url: String::new(), process: None }
    }

    /// A provider with an empty ledger.
    pub(crate) async fn start(args: &[&str]) -> Self {
        let mut provider = Self::idle();
        provider.start_again(args).await;
        provider
    }

    /// Starts it again, where it was before.
    pub(crate) async fn start_again(&mut self, args: &[&str]) {
        self.start_with(args, &[]).await;
    }

    /// The same, with variables.
    pub(crate) async fn start_with(&mut self, args: &[&str], variables: &[(&str, &str)]) {
        let listen = self.url.strip_prefix("http://").unwrap_or("127.0.0.1:0").to_owned();
        let args = [&["gateway", "--ledger", "ledger.ndjson", "--listen", &listen], args].concat();
        let mut command = self.local.command(&args);
        command.env("ORDERSTREAM_GATEWAY_KEY", KEY).envs(variables.iter().copied());
        let log = File::create(self.local.path("gateway.log")).expect("a file in the test's folder");
        let mut process = command.stderr(log).spawn().expect("the program starts");
        let mut lines = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        let url = lines.next_line().await.expect("text");
        self.url = url.unwrap_or_else(|| panic!("`orderstream {}` does not start", args.join(" ")));
        assert_eq!(lines.next_line().await.expect("text").as_deref(), Some("ready"));
        self.process = Some(process);
    }

    /// kill -9.
    pub(crate) async fn kill(&mut self) {
        self.process.take().expect("it runs").kill().await.expect("a child of ours");
    }

    /// A client with time for answers.
    pub(crate) fn client(&self) -> HttpGateway {
        client(&self.url, |_| {})
    }

    /// A request that no client of ours makes.
    pub(crate) async fn post(&self, path: &str, key: &str, body: &str) -> (u16, Value) {
        let request = reqwest::Client::new().post(format!("{}/{path}", self.url)).bearer_auth(KEY);
        let request = request.header("idempotency-key", key).header("content-type", "application/json");
        let response = request.body(body.to_owned()).send().await.expect("an answer");
        (response.status().as_u16(), response.json().await.expect("JSON"))
    }

    /// What its ledger shows, by kind and reference.
    pub(crate) async fn ledger(&self) -> BTreeMap<(String, String), Vec<Value>> {
        let request = reqwest::Client::new().get(format!("{}/ledger", self.url)).bearer_auth(KEY);
        let text = request.send().await.expect("an answer").text().await.expect("text");
        let mut ledger: BTreeMap<_, Vec<Value>> = BTreeMap::new();
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).expect("JSON");
            let word = |name: &str| line[name].as_str().expect("a text").to_owned();
            ledger.entry((word("kind"), word("reference"))).or_default().push(line);
        }
        ledger
    }
}

/// A client of any server.
pub(crate) fn client(url: &str, set: impl FnOnce(&mut Settings)) -> HttpGateway {
    orderstream::tls::install();
    let mut settings = Settings {
        url: Url::parse(url).expect("a URL"),
        key: Some(KEY.to_owned()),
        timeout: Duration::from_secs(10),
        calls_max: 64,
        calls_per_second_max: None,
    };
    set(&mut settings);
    HttpGateway::new(settings, "EUR").expect("a client")
}

/// A charge of 39.98.
pub(crate) fn charge(reference: &str) -> Charge {
    Charge { order_id: OrderId(1), reference: reference.to_owned(), amount: Cents::new(3998) }
}

/// Charges of these numbers.
pub(crate) fn charges(numbers: std::ops::Range<u32>) -> Vec<Charge> {
    numbers.map(|number| charge(&format!("ORD-{number}"))).collect()
}

/// A refund of a charge that is known by its reference only.
pub(crate) fn refund(key: &str, reference: &str, cents: i64) -> Return {
    Return {
        reference: key.to_owned(),
        charge_reference: reference.to_owned(),
        charge_id: None,
        amount: Cents::new(cents),
    }
}
