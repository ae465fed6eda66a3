//! Promises of the door to Stripe, against the stand-in of `proofs/stripe`, whose clock stands until it is advanced.
//!
//! Each row of a table is one payment: a payment method, then steps with what each answers. See [`check`] for the words.

mod amounts;
mod books;
mod checkup;
mod keys;
mod localstripe;
mod notices;
mod options;
mod over_tls;
mod payments;
mod refunds;
mod secrets;
mod turns;
mod weather;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use doorbuster_engine::identity::OrderId;
use doorbuster_engine::money::Currency;
use doorbuster_engine::payment::NextAction;
use doorbuster_stripe::{Faults, Outage};

use super::*;

/// A shop with its door open to a Stripe of its own.
struct Shop {
    stripe: Arc<doorbuster_stripe::Stripe>,
    door: Stripe,
}

/// Orders of one process differ, so that one stand-in can serve several rows.
static ORDERS: AtomicU64 = AtomicU64::new(1);

impl Shop {
    fn open() -> Self {
        Self::open_with(&doorbuster_stripe::Options::default(), |options| options)
    }

    fn open_with(stand_in: &doorbuster_stripe::Options, options: impl FnOnce(Options) -> Options) -> Self {
        let stripe = Arc::new(doorbuster_stripe::Stripe::start_with(stand_in).unwrap());
        let mut usual = Options::new(stripe.key());
        usual.api_base = stripe.url();
        let clock = Arc::clone(&stripe);
        let door = Stripe::with_clock(&options(usual), Arc::new(move || clock.now_ms())).unwrap();
        Self { stripe, door }
    }

    /// A new order's payment of £19.99.
    fn request(&self, method: &str) -> ChargeRequest {
        let order = OrderId(u128::from(ORDERS.fetch_add(1, Ordering::Relaxed)));
        ChargeRequest {
            key: format!("{order}:charge"),
            order,
            amount: Money::new(1_999, Currency::GBP),
            method: method.to_owned(),
            asked_at: Timestamp(self.stripe.now_ms()),
        }
    }

    /// All intents of an order, by the provider's own books.
    async fn intents(&self, order: OrderId) -> Vec<doorbuster_engine::payment::PaymentRecord> {
        let page = self.door.list(Timestamp(0), None).await.unwrap();
        assert!(page.next.is_none(), "one page holds what a test makes");
        page.data.into_iter().filter(|payment| payment.order == Some(order)).collect()
    }

    /// Nobody listens any more, and no connection is left.
    fn shut(&self) {
        self.stripe.set_faults(Faults { outage: Outage::Refused, ..Faults::default() });
        self.wait_for_the_door(false);
    }

    /// All is well, and somebody listens.
    fn calm(&self) {
        self.stripe.set_faults(Faults::default());
        self.wait_for_the_door(true);
    }

    fn wait_for_the_door(&self, open: bool) {
        let since = std::time::Instant::now();
        while std::net::TcpStream::connect(self.stripe.address()).is_ok() != open {
            assert!(
                since.elapsed() < Duration::from_secs(30),
                "the stand-in's door did not become open: {open}"
            );
            std::thread::yield_now();
        }
    }

    /// One fault at the next request whose path contains `path`.
    fn once(&self, path: &str, fault: impl FnOnce(&mut Faults)) {
        let mut faults = Faults { path: Some(path.to_owned()), times_max: Some(1), ..Faults::default() };
        fault(&mut faults);
        self.stripe.set_faults(faults);
    }
}

/// What an outcome is called in the tables.
fn name(outcome: &ChargeOutcome) -> String {
    match outcome {
        ChargeOutcome::Authorized { .. } => "authorized".to_owned(),
        ChargeOutcome::Captured { .. } => "captured".to_owned(),
        ChargeOutcome::Declined { reason, retryable: true } => format!("retry: {reason}"),
        ChargeOutcome::Declined { reason, retryable: false } => format!("declined: {reason}"),
        ChargeOutcome::ActionRequired { reference, action: NextAction::ClientSecret(secret) } => {
            assert!(secret.starts_with(&format!("{reference}_secret_")), "the secret is the intent's own");
            "action".to_owned()
        }
        ChargeOutcome::ActionRequired { action: NextAction::Redirect(_), .. } => "redirect".to_owned(),
        ChargeOutcome::Unknown => "unknown".to_owned(),
    }
}

fn reference_of(outcome: &ChargeOutcome) -> Option<&str> {
    match outcome {
        ChargeOutcome::Authorized { reference }
        | ChargeOutcome::Captured { reference }
        | ChargeOutcome::ActionRequired { reference, .. } => Some(reference),
        ChargeOutcome::Declined { .. } | ChargeOutcome::Unknown => None,
    }
}

fn capture_name(outcome: &CaptureOutcome) -> String {
    match outcome {
        CaptureOutcome::Captured => "captured".to_owned(),
        CaptureOutcome::Lost { reason } => format!("lost: {reason}"),
        CaptureOutcome::Unknown => "unknown".to_owned(),
    }
}

fn void_name(outcome: &VoidOutcome) -> String {
    match outcome {
        VoidOutcome::Voided => "voided".to_owned(),
        VoidOutcome::AlreadyCaptured { .. } => "too late".to_owned(),
        VoidOutcome::Unknown => "unknown".to_owned(),
    }
}

fn refund_name(outcome: &RefundOutcome) -> String {
    match outcome {
        RefundOutcome::Refunded { .. } => "refunded".to_owned(),
        RefundOutcome::Refused { reason } => format!("refused: {reason}"),
        RefundOutcome::Unknown => "unknown".to_owned(),
    }
}

/// Runs the steps of each row in order, `method | step -> answer | …`, and at its end demands at most one intent.
///
/// | step | does |
/// |---|---|
/// | `authorize`, `confirm`, `look up`, `capture`, `void` | asks the door, by the reference where one is known |
/// | `look up blind`, `void blind` | the same without it |
/// | `refund N`, `refund N as K` | gives N back under the key `r`, or K |
/// | `pass`, `fail` | the shopper passes 3-D Secure, or fails it |
/// | `settle`, `unsettle` | the bank ends what is processing, well or not |
/// | `lose P`, `break P`, `fault P`, `shut P` | the next request at P does its work and loses the reply; 500 after the work; 500 instead of it; 503 |
/// | `outage`, `hang` | nobody listens, or answers, until `calm` |
/// | `+N h`, `+N m` | time passes |
async fn check(table: &str) {
    let shop = Shop::open_with(&doorbuster_stripe::Options::default(), |options| Options {
        request_timeout_ms: 500,
        ..options
    });
    for row in table.lines().map(str::trim).filter(|row| !row.is_empty()) {
        let (method, steps) = row.split_once('|').unwrap();
        let request = shop.request(method.trim());
        let mut reference: Option<String> = None;
        for step in steps.split('|').map(str::trim) {
            let (step, expected) =
                step.split_once("->").map_or((step, ""), |(step, want)| (step.trim(), want.trim()));
            let seen = take(&shop, &request, &mut reference, step).await;
            assert_eq!(seen, expected, "{step} in: {row}");
        }
        shop.calm();
        let intents = shop.intents(request.order).await;
        assert!(intents.len() <= 1, "{} intents of one order: {row}", intents.len());
    }
}

async fn take(shop: &Shop, request: &ChargeRequest, reference: &mut Option<String>, step: &str) -> String {
    let door = &shop.door;
    let known = reference.clone();
    let mut charged = |outcome: ChargeOutcome| {
        if let Some(known) = reference_of(&outcome) {
            *reference = Some(known.to_owned());
        }
        name(&outcome)
    };
    match step {
        "authorize" => charged(door.authorize(request).await),
        "look up blind" => charged(door.look_up(request, None).await),
        "void blind" => void_name(&door.void(request, None).await),
        "outage" => quiet(|| shop.shut()),
        "hang" => quiet(|| shop.stripe.set_faults(Faults { outage: Outage::Hanging, ..Faults::default() })),
        "calm" => quiet(|| shop.calm()),
        _ => match step.split_once(' ') {
            Some(("lose", path)) => quiet(|| shop.once(path, |faults| faults.lost_reply_rate = 1.0)),
            Some(("break", path)) => quiet(|| shop.once(path, |faults| faults.failed_after_rate = 1.0)),
            Some(("fault", path)) => quiet(|| shop.once(path, |faults| faults.failed_before_rate = 1.0)),
            Some(("shut", path)) => quiet(|| shop.once(path, |faults| faults.unavailable_rate = 1.0)),
            Some(("refund", rest)) => {
                let (amount, key) = rest.split_once(" as ").unwrap_or((rest, "r"));
                let amount = Money::new(amount.parse().unwrap(), request.amount.currency);
                let key = format!("{}:{key}", request.key);
                let known = known.as_deref().unwrap();
                refund_name(&door.refund(request, known, &key, amount).await)
            }
            Some((time, unit)) if time.starts_with('+') => quiet(|| {
                let times = if unit == "h" { 60 } else { 1 };
                shop.stripe.advance(time[1..].parse::<u64>().unwrap() * times * 60_000);
            }),
            _ => {
                let known = match known {
                    Some(known) => known,
                    None => shop.intents(request.order).await[0].reference.clone(),
                };
                match step {
                    "confirm" => charged(door.confirm(request, &known).await),
                    "look up" => charged(door.look_up(request, Some(&known)).await),
                    "capture" => capture_name(&door.capture(request, &known).await),
                    "void" => void_name(&door.void(request, Some(&known)).await),
                    "pass" => quiet(|| shop.stripe.authenticate(&known, true).map(drop).unwrap()),
                    "fail" => quiet(|| shop.stripe.authenticate(&known, false).map(drop).unwrap()),
                    "settle" => quiet(|| shop.stripe.settle(&known, true).map(drop).unwrap()),
                    "unsettle" => quiet(|| shop.stripe.settle(&known, false).map(drop).unwrap()),
                    _ => panic!("no such step: {step}"),
                }
            }
        },
    }
}

fn quiet(act: impl FnOnce()) -> String {
    act();
    String::new()
}
