//! No line of the log bears a secret, on good days and on bad ones.

use std::io::Write;
use std::sync::Mutex;

use tracing_subscriber::fmt::MakeWriter;

use super::*;

/// Everything that was logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'lines> MakeWriter<'lines> for Lines {
    type Writer = Self;

    fn make_writer(&'lines self) -> Self {
        self.clone()
    }
}

/// What runs on our side of the wire. The stand-in logs what it was sent, as Stripe may.
const OURS: &str = "off,doorbuster_gateways=trace,hyper=trace,hyper_rustls=trace,hyper_util=trace,rustls=trace,\
                    stripe_client_core=trace,stripe_core=trace,stripe_shared=trace,stripe_types=trace";

/// The subscriber is the process's: one of a single thread would leave mute what another test's thread logged first. So
/// this hears the other tests as well, which have the same secrets.
#[tokio::test(flavor = "multi_thread")]
async fn no_line_of_the_log_bears_a_secret() {
    let lines = Lines::default();
    tracing_subscriber::fmt().with_env_filter(OURS).with_ansi(false).with_writer(lines.clone()).init();
    let mut secrets = vec!["whsec_canary".to_owned(), "canary_rolled".to_owned()];
    let shop = Shop::open_with(&doorbuster_stripe::Options::default(), |options| Options {
        webhook_secrets: vec!["whsec_canary".to_owned()],
        request_timeout_ms: 200,
        ..options
    });
    secrets.push(shop.stripe.key().to_owned());
    let waiting = shop.request("pm_card_authenticationRequired");
    let outcome = shop.door.authorize(&waiting).await;
    let ChargeOutcome::ActionRequired { reference, action: NextAction::ClientSecret(secret) } = &outcome
    else {
        panic!("{outcome:?}");
    };
    secrets.push(secret.clone());
    shop.once("/payment_intents", |faults| faults.unavailable_rate = 1.0);
    assert_eq!(shop.door.confirm(&waiting, reference).await, ChargeOutcome::Unknown);
    for method in ["pm_card_chargeDeclined", "pm_nobody_knows"] {
        shop.door.authorize(&shop.request(method)).await;
    }
    let forged = |_: &str| Some("t=1,v1=00".to_owned());
    assert!(shop.door.notice(&forged, b"{}", 0).await.is_err());
    shop.stripe.set_faults(Faults { outage: Outage::Hanging, ..Faults::default() });
    shop.door.authorize(&waiting).await;
    shop.shut();
    shop.door.authorize(&waiting).await;
    let rolled = Shop::open_with(&doorbuster_stripe::Options::default(), |options| Options {
        secret_key: "sk_test_canary_rolled".to_owned(),
        ..options
    });
    rolled.door.authorize(&waiting).await;
    let logged = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let expected = [
        "does not accept the secret key",
        "did not answer in time",
        "did not accept a payment",
        "has no answer now",
    ];
    for expected in expected {
        assert!(logged.contains(expected), "the log was heard: {expected}");
    }
    for secret in secrets {
        assert!(!logged.contains(&secret), "{secret} is in the log");
    }
}
