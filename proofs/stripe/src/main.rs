//! The stand-in as a program, for demonstrations and load: time runs as the machine's does.

use std::net::SocketAddr;

use clap::Parser;
use doorbuster_stripe::{Endpoint, Options, Stripe, TEST_KEY, Time};

/// A stand-in for Stripe's API, in memory, over plain HTTP. Not for real money.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where the API listens
    #[arg(long, default_value = "127.0.0.1:12111")]
    listen: SocketAddr,
    /// Where tests ask for faults, time and the ledger, also during an outage
    #[arg(long, default_value = "127.0.0.1:12112")]
    control: SocketAddr,
    /// The secret key that requests have to bear
    #[arg(long, default_value = TEST_KEY)]
    key: String,
    /// Repeats ids and choices; drawn and printed if unsaid
    #[arg(long)]
    seed: Option<u64>,
    /// Where webhooks go, `http://…`
    #[arg(long, requires = "webhook_secret")]
    webhook_url: Option<String>,
    /// What signs them; twice while one secret replaces another
    #[arg(long)]
    webhook_secret: Vec<String>,
    /// Webhooks delivered at once
    #[arg(long, default_value_t = 8)]
    webhooks_at_once: usize,
    /// Let time stand until it is advanced
    #[arg(long)]
    standing_clock: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let stripe = Stripe::start_with(&Options {
        listen: arguments.listen,
        control: arguments.control,
        seed: arguments.seed,
        key: arguments.key,
        time: if arguments.standing_clock { Time::Standing } else { Time::Running },
        webhooks_at_once: arguments.webhooks_at_once,
    })?;
    let secrets = arguments.webhook_secret;
    stripe.set_endpoint(arguments.webhook_url.map(|url| Endpoint { url, secrets, kinds: vec![] }));
    stripe.wait()?;
    Ok(())
}
