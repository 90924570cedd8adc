//! `orderstream top`: its flags.

use clap::Args;

use super::http::parse_environment;

/// `orderstream top`
#[derive(Debug, Args)]
#[command(after_help = "\
On the screen, `?` shows the keys. With NO_COLOR set it has no colours: every state is a word, too.

  orderstream top
  orderstream top --environment production
  orderstream top --json --count 1 | jq .sentence      one snapshot
  orderstream top --json                               one a second, each on a line, until Ctrl-C")]
pub struct TopArgs {
    /// End after this many snapshots; with --json
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// What the screen says it shows, such as production or staging
    #[arg(long, env = "ORDERSTREAM_ENVIRONMENT", hide_env_values = true, value_name = "NAME", value_parser = parse_environment)]
    pub environment: Option<String>,
}
