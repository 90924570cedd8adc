//! Who takes the money.

use clap::Args;

/// In what an installation charges that nobody told otherwise.
pub const DEFAULT_CURRENCY: &str = "EUR";

/// The share that the simulator approves where nobody told otherwise.
pub const DEFAULT_SUCCESS_RATE: f64 = 0.9;

/// The payment provider. Who takes the money is a fact of the installation: what is given here is set by the first process
/// of an installation, and has to agree with it ever after.
#[derive(Debug, Clone, Args)]
pub struct PaymentArgs {
    /// Base URL of the payment provider (docs/GATEWAY.md). The first process of an installation sets it for all, without one
    /// payments are simulated; later ones must agree, or leave it out. To change it: orderstream provider set. Its key comes
    /// from ORDERSTREAM_GATEWAY_KEY
    #[arg(long, env = "ORDERSTREAM_GATEWAY", hide_env_values = true, value_name = "URL")]
    pub gateway: Option<String>,
    /// Accept a provider whose URL is plain http on another machine
    #[arg(long, env = "ORDERSTREAM_ALLOW_PLAIN_GATEWAY", hide_env_values = true)]
    pub allow_plain_gateway: bool,
    /// Seconds that a call to the provider waits for its turn at most, and again for its answer
    #[arg(long, default_value_t = 5, env = "ORDERSTREAM_GATEWAY_TIMEOUT", hide_env_values = true, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=60))]
    pub gateway_timeout: u64,
    /// Most calls to the provider in flight, in this process
    #[arg(long, default_value_t = 256, env = "ORDERSTREAM_GATEWAY_CALLS", hide_env_values = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub gateway_calls: u16,
    /// Most calls to the provider in a second, of this process; 0 is without limit
    #[arg(long, default_value_t = 0, env = "ORDERSTREAM_GATEWAY_RATE", hide_env_values = true, value_name = "CALLS")]
    pub gateway_rate: u32,
    /// In what everything is charged, three letters [default: that of the installation, at first EUR, or that of its payments from an earlier version]
    #[arg(long, env = "ORDERSTREAM_CURRENCY", hide_env_values = true, value_parser = parse_currency)]
    pub currency: Option<String>,
    /// Share of payments that the simulated gateway approves, from 0 to 1 [default: that of the installation, at first 0.9]
    #[arg(long, env = "ORDERSTREAM_SUCCESS_RATE", hide_env_values = true)]
    pub success_rate: Option<f64>,
    /// How long the simulated gateway takes for a batch, in milliseconds
    #[arg(
        long,
        default_value_t = 0,
        env = "ORDERSTREAM_PAYMENT_LATENCY_MS",
        hide_env_values = true,
        value_name = "MS"
    )]
    pub payment_latency_ms: u64,
    /// Seconds after which a payment without an answer expires, and its order fails; money that comes later goes back
    #[arg(long, default_value_t = 600, env = "ORDERSTREAM_PAYMENT_TIMEOUT", hide_env_values = true, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=604_800))]
    pub payment_timeout: u64,
    /// Seconds that a refund may wait for its order to reach its end
    #[arg(long, default_value_t = 900, env = "ORDERSTREAM_REFUND_WAIT", hide_env_values = true, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=604_800))]
    pub refund_wait: u64,
}

impl PaymentArgs {
    /// Whatever the installation has: for those who bring no workers.
    pub fn installed() -> Self {
        Self {
            gateway: None,
            allow_plain_gateway: false,
            gateway_timeout: 5,
            gateway_calls: 256,
            gateway_rate: 0,
            currency: None,
            success_rate: None,
            payment_latency_ms: 0,
            payment_timeout: 600,
            refund_wait: 900,
        }
    }
}

/// A currency as ISO 4217 writes it.
pub(super) fn parse_currency(text: &str) -> Result<String, String> {
    match text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase()) {
        true => Ok(text.to_owned()),
        false => Err("a currency has three capital letters, such as EUR".to_owned()),
    }
}
