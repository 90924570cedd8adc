//! The flags of `refund` and `refunds`.

use clap::Args;
use pipeline::domain::RefundStatus;

use super::payment::PaymentArgs;

/// `orderstream refund`
#[derive(Debug, Args)]
#[command(after_help = "\
The key makes it safe to repeat: the same key with the same order, amount, reason and --restock gives the same answer and
gives nothing back twice; with anything else it is refused (exit code 6). Never more is given back than was paid.

  orderstream refund ORD-1 --key return-17                          all that is left
  orderstream refund ORD-1 --key return-17 --amount 10.00 --reason damaged --restock
  orderstream refund ORD-1 --key pieces-17 --amount 0 --restock     only the pieces come back")]
pub struct RefundArgs {
    /// The order's code
    pub code: String,
    /// The name of this refund: the same key is the same refund
    #[arg(long)]
    pub key: String,
    /// How much; all that is left if not given; 0 with --restock brings only the pieces back
    #[arg(long, value_name = "AMOUNT")]
    pub amount: Option<String>,
    /// Why, for people
    #[arg(long)]
    pub reason: Option<String>,
    /// Put the order's pieces back into the stock: once, however many refunds ask for it, and also where no money is left
    #[arg(long)]
    pub restock: bool,
    /// Seconds to wait for the outcome where a gateway, or the order itself, takes its time
    #[arg(long, default_value_t = 10, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub wait: u64,
    /// The gateway
    #[command(flatten)]
    pub payment: PaymentArgs,
}

/// `orderstream refunds`
#[derive(Debug, Args)]
pub struct RefundsArgs {
    /// Only those of this order
    #[arg(long, value_name = "CODE")]
    pub order: Option<String>,
    /// Only those in this state: waiting, pending, succeeded, refused, failed
    #[arg(long)]
    pub status: Option<RefundStatus>,
    /// Only those that this import brought
    #[arg(long, value_name = "NUMBER")]
    pub import: Option<i64>,
    /// Most refunds to show
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
}
