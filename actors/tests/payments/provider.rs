//! A provider elsewhere that does what a test says, with books that outlast the engine.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use doorbuster_engine::identity::{OrderId, Timestamp};
use doorbuster_engine::money::{Currency, Money};
use doorbuster_engine::payment::{
    Answering, CaptureOutcome, ChargeOutcome, ChargeRequest, FailedRefund, NextAction, Notice, NoticeError,
    PaymentNews, PaymentPage, PaymentProvider, PaymentRecord, RefundOutcome, Standing, Turnstile,
    VoidOutcome,
};
use tokio::time::Instant;

use super::Door;

/// How long each request of a call takes.
const REQUEST: Duration = Duration::from_millis(30);

/// The script and the books; clones share them.
#[derive(Clone)]
pub(crate) struct Provider {
    name: &'static str,
    calls_per_second_max: Option<u32>,
    /// Requests that each call needs, and who says when they go.
    requests: usize,
    turns: Option<Arc<dyn Turnstile>>,
    book: Arc<Mutex<Book>>,
}

/// See [`Provider`].
#[derive(Default)]
pub(crate) struct Book {
    /// Calls that are not answered and do nothing, by name; `*` stands for all.
    pub(crate) silent: Vec<&'static str>,
    /// Calls that do their work, and are not answered.
    pub(crate) losing: Vec<&'static str>,
    /// Refunds are refused.
    pub(crate) refuses_refunds: bool,
    /// Whether lists are answered, and what they show besides the payments.
    pub(crate) listed_besides: Vec<PaymentRecord>,
    /// Most payments of a page of the list; 0: all of them.
    pub(crate) page: usize,
    /// Every call: when, its name, for which order.
    pub(crate) calls: Vec<(Instant, &'static str, OrderId)>,
    /// Every request of them: when.
    pub(crate) requests: Vec<Instant>,
    /// Payments by their key.
    pub(crate) payments: BTreeMap<String, PaymentRecord>,
    /// Keys of refunds made, with the amount.
    pub(crate) refunds: BTreeMap<String, i64>,
}

impl Provider {
    /// The provider `script`, without a pace.
    pub(crate) fn new() -> Self {
        Self::named("script", None)
    }

    pub(crate) fn named(name: &'static str, calls_per_second_max: Option<u32>) -> Self {
        Self { name, calls_per_second_max, requests: 1, turns: None, book: Arc::default() }
    }

    /// The provider `script`, each of whose calls needs so many requests.
    pub(crate) fn of_requests(requests: usize, calls_per_second_max: u32) -> Self {
        Self { requests, ..Self::named("script", Some(calls_per_second_max)) }
    }

    pub(crate) fn door(&self) -> Door {
        Arc::new(self.clone())
    }

    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap()
    }

    /// From now on these calls are not answered and do nothing.
    pub(crate) fn silence(&self, calls: &[&'static str]) {
        self.book().silence(calls);
    }

    /// What was asked for this order, in order.
    pub(crate) fn asked_for(&self, order: OrderId) -> Vec<&'static str> {
        self.book().calls.iter().filter(|(_, _, of)| *of == order).map(|(_, name, _)| *name).collect()
    }

    /// The order's own payment in the books.
    pub(crate) fn payment(&self, order: OrderId) -> Option<PaymentRecord> {
        self.book().payments.get(&format!("{order}:charge")).cloned()
    }

    /// Changes how the order's own payment stands, as its shopper or somebody at the provider's desk may.
    pub(crate) fn stand(&self, order: OrderId, standing: Standing) {
        let mut book = self.book();
        let payment = book.payments.get_mut(&format!("{order}:charge")).unwrap();
        payment.captured = if standing == Standing::Captured { payment.amount.amount } else { 0 };
        payment.standing = standing;
    }

    /// Does `work` now, and gives the answer after the call's requests, as the script wants it.
    fn answer<T: Send + 'static>(
        &self,
        call: &'static str,
        request: &ChargeRequest,
        unknown: T,
        work: impl FnOnce(&mut Book) -> T,
    ) -> Answering<T> {
        let mut book = self.book();
        book.calls.push((Instant::now(), call, request.order));
        let says = |names: &[&str]| names.contains(&call) || names.contains(&"*");
        let (silent, losing) = (says(&book.silent), says(&book.losing));
        let answer =
            if silent { unknown } else { Some(work(&mut book)).filter(|_| !losing).unwrap_or(unknown) };
        let (provider, turns) = (self.clone(), self.turns.clone());
        drop(book);
        Box::pin(async move {
            for _ in 0..provider.requests {
                if let Some(turns) = &turns {
                    assert!(turns.turn().await, "an order's call is not turned away");
                }
                provider.book().requests.push(Instant::now());
                tokio::time::sleep(REQUEST).await;
            }
            answer
        })
    }

    fn charge(&self, call: &'static str, request: &ChargeRequest, acted: bool) -> Answering<ChargeOutcome> {
        self.answer(call, request, ChargeOutcome::Unknown, |book| {
            let payment = book.payments.entry(request.key.clone()).or_insert_with(|| PaymentRecord {
                reference: format!("pay_of_{}", request.order),
                order: Some(request.order),
                amount: request.amount,
                captured: 0,
                refunded: 0,
                standing: if request.method == "action" { Standing::Open } else { Standing::Authorized },
                created_at: request.asked_at,
            });
            let reference = payment.reference.clone();
            if request.method == "declined" {
                payment.standing = Standing::Cancelled;
            }
            if acted && payment.standing == Standing::Open {
                payment.standing = Standing::Authorized;
            }
            match payment.standing {
                Standing::Open => ChargeOutcome::ActionRequired {
                    action: NextAction::Redirect(format!("https://pay.example/{reference}")),
                    reference,
                },
                Standing::Authorized => ChargeOutcome::Authorized { reference },
                Standing::Captured => ChargeOutcome::Captured { reference },
                Standing::Cancelled => {
                    ChargeOutcome::Declined { reason: "it was cancelled".into(), retryable: false }
                }
            }
        })
    }
}

impl Book {
    pub(crate) fn silence(&mut self, calls: &[&'static str]) {
        self.silent = calls.to_vec();
    }

    /// The payment that a reference names, whoever's it is.
    fn named(&mut self, reference: &str) -> Option<&mut PaymentRecord> {
        self.payments.values_mut().find(|payment| payment.reference == reference)
    }
}

impl PaymentProvider for Provider {
    fn name(&self) -> &'static str {
        self.name
    }

    fn calls_per_second_max(&self) -> Option<u32> {
        self.calls_per_second_max
    }

    fn paced(&self, turns: Arc<dyn Turnstile>) -> Option<Door> {
        Some(Arc::new(Self { turns: Some(turns), ..self.clone() }))
    }

    fn authorize(&self, request: &ChargeRequest) -> Answering<ChargeOutcome> {
        self.charge("authorize", request, false)
    }

    fn confirm(&self, request: &ChargeRequest, _reference: &str) -> Answering<ChargeOutcome> {
        self.charge("confirm", request, true)
    }

    fn look_up(&self, request: &ChargeRequest, _reference: Option<&str>) -> Answering<ChargeOutcome> {
        self.charge("look_up", request, false)
    }

    fn capture(&self, request: &ChargeRequest, reference: &str) -> Answering<CaptureOutcome> {
        let reference = reference.to_owned();
        self.answer("capture", request, CaptureOutcome::Unknown, |book| {
            let lost = || CaptureOutcome::Lost { reason: "the authorization is gone".into() };
            let Some(payment) = book.named(&reference) else { return lost() };
            match payment.standing {
                Standing::Authorized | Standing::Captured => {
                    payment.standing = Standing::Captured;
                    payment.captured = payment.amount.amount;
                    CaptureOutcome::Captured
                }
                Standing::Open | Standing::Cancelled => lost(),
            }
        })
    }

    fn void(&self, request: &ChargeRequest, reference: Option<&str>) -> Answering<VoidOutcome> {
        let reference = reference.map_or_else(|| format!("pay_of_{}", request.order), str::to_owned);
        self.answer("void", request, VoidOutcome::Unknown, |book| {
            let Some(payment) = book.named(&reference) else { return VoidOutcome::Voided };
            if payment.standing == Standing::Captured {
                return VoidOutcome::AlreadyCaptured { reference: reference.clone() };
            }
            payment.standing = Standing::Cancelled;
            VoidOutcome::Voided
        })
    }

    fn refund(
        &self,
        request: &ChargeRequest,
        reference: &str,
        key: &str,
        amount: Money,
    ) -> Answering<RefundOutcome> {
        let (reference, key) = (reference.to_owned(), key.to_owned());
        self.answer("refund", request, RefundOutcome::Unknown, |book| {
            if book.refuses_refunds {
                return RefundOutcome::Refused { reason: "the account is frozen".into() };
            }
            if book.refunds.insert(key.clone(), amount.amount).is_none() {
                let payment = book.named(&reference).unwrap();
                payment.refunded += amount.amount;
                assert!(payment.refunded <= payment.captured, "law 7: more goes back than came");
            }
            RefundOutcome::Refunded { reference: format!("refund_{key}") }
        })
    }

    fn notice(
        &self,
        header: &dyn Fn(&str) -> Option<String>,
        body: &[u8],
        _now_ms: u64,
    ) -> Answering<Result<Notice, NoticeError>> {
        let proved = header("script-signature").as_deref() == Some("good");
        let notice = if proved { read(body) } else { Err(NoticeError::BadSignature) };
        Box::pin(std::future::ready(notice))
    }

    fn list(&self, since: Timestamp, after: Option<&str>) -> Answering<Option<PaymentPage>> {
        let book = self.book();
        let mut all: Vec<PaymentRecord> =
            book.payments.values().chain(&book.listed_besides).cloned().collect();
        all.retain(|payment| payment.created_at >= since);
        all.sort_by_key(|payment| std::cmp::Reverse(payment.created_at));
        let from: usize = after.map_or(0, |after| after.parse().unwrap());
        let page = if book.page == 0 { all.len().max(1) } else { book.page };
        let data: Vec<_> = all.iter().skip(from).take(page).cloned().collect();
        let to = from + data.len();
        let next = (to < all.len()).then(|| to.to_string());
        let answered = !book.silent.contains(&"list") && !book.silent.contains(&"*");
        Box::pin(std::future::ready(answered.then_some(PaymentPage { data, next })))
    }
}

/// `event order reference amount standing`; of a `-` as order nothing is told. Where `refund_failed` is the standing, the
/// reference is the refund's key.
fn read(body: &[u8]) -> Result<Notice, NoticeError> {
    let words: Vec<&str> = std::str::from_utf8(body).unwrap().split(' ').collect();
    let [event, order, reference, amount, standing] = words[..] else {
        return Err(NoticeError::Malformed("five words are wanted".into()));
    };
    let kind = "payment.changed".to_owned();
    let amount = Money::new(amount.parse().unwrap(), Currency::GBP);
    if standing == "refund_failed" {
        let (order, key, reference) = (order.parse().unwrap(), reference.to_owned(), "re_1".to_owned());
        let failed = FailedRefund { order, key, reference, amount, reason: "declined".into() };
        return Ok(Notice { event: event.into(), kind, news: None, failed_refund: Some(failed) });
    }
    let standing = match standing {
        "open" => Standing::Open,
        "authorized" => Standing::Authorized,
        "captured" => Standing::Captured,
        "cancelled" => Standing::Cancelled,
        _ => panic!("{standing}"),
    };
    let news = (order != "-").then(|| PaymentNews {
        order: order.parse().unwrap(),
        reference: reference.into(),
        amount,
        standing,
    });
    Ok(Notice { event: event.into(), kind, news, failed_refund: None })
}
