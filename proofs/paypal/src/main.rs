//! The stand-in as a program, for demonstrations and load.

use std::net::SocketAddr;

use clap::Parser;
use doorbuster_paypal_stand_in::{CLIENT_ID, CLIENT_SECRET, Options, PayPal};

/// A stand-in for PayPal's API, in memory, over plain HTTP. Not for real money.
///
/// Its webhook has the id STANDINWEBHOOK. Faults, ledger and figures are at /_stand-in.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where it listens
    #[arg(long, default_value = "127.0.0.1:12121")]
    listen: SocketAddr,
    /// Repeats ids and choices; drawn and printed if unsaid
    #[arg(long)]
    seed: Option<u64>,
    /// Who may ask for an access token
    #[arg(long, default_value = CLIENT_ID)]
    client_id: String,
    /// Their secret
    #[arg(long, default_value = CLIENT_SECRET)]
    client_secret: String,
    /// Where webhooks go, http://…
    #[arg(long)]
    webhook_url: Option<String>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let paypal = PayPal::start_with(&Options {
        listen: arguments.listen,
        seed: arguments.seed,
        client_id: arguments.client_id,
        client_secret: arguments.client_secret,
        webhook_url: arguments.webhook_url,
        ..Options::default()
    })?;
    paypal.wait()?;
    Ok(())
}
