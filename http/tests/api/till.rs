//! A payment provider elsewhere, for the surface: sends shoppers to its page, keeps silent on request, proves its webhooks by a
//! word in a header, and lists what it is told to list.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use doorbuster_engine::identity::Timestamp;
use doorbuster_engine::money::{Currency, Money};
use doorbuster_engine::payment::{
    Answering, CaptureOutcome, ChargeOutcome, ChargeRequest, NextAction, Notice, NoticeError, PaymentNews,
    PaymentPage, PaymentProvider, PaymentRecord, RefundOutcome, Standing, VoidOutcome,
};

use super::harness::Shop;

/// The provider. Clones share what they are told.
#[derive(Clone)]
pub(crate) struct Till {
    name: &'static str,
    /// Whether webhooks can be proved; without it no secret is configured.
    proves: bool,
    silent: Arc<AtomicBool>,
    listed: Arc<Mutex<Vec<PaymentRecord>>>,
}

impl Till {
    pub(crate) fn named(name: &'static str) -> Self {
        Self { name, proves: true, silent: Arc::default(), listed: Arc::default() }
    }

    /// One that has no secret to prove webhooks with.
    pub(crate) fn without_secret(self) -> Self {
        Self { proves: false, ..self }
    }

    /// From now on nothing is answered.
    pub(crate) fn fall_silent(&self) {
        self.silent.store(true, Ordering::SeqCst);
    }

    /// Shows this payment in the list.
    pub(crate) fn list(&self, record: PaymentRecord) {
        self.listed.lock().unwrap().push(record);
    }

    /// A shop that takes payments by it.
    pub(crate) fn shop(&self) -> Shop {
        self.shop_with(|_| {})
    }

    pub(crate) fn shop_with(&self, change: impl FnOnce(&mut doorbuster_actors::EngineOptions)) -> Shop {
        Shop::open_with(
            |engine| {
                engine.providers.push(Arc::new(self.clone()));
                change(engine);
            },
            |door| door.providers.push(self.name.to_owned()),
        )
    }

    fn answer<T: Send + 'static>(&self, answer: T, unknown: T) -> Answering<T> {
        let silent = self.silent.load(Ordering::SeqCst);
        Box::pin(std::future::ready(if silent { unknown } else { answer }))
    }
}

fn reference(request: &ChargeRequest) -> String {
    format!("till_{}", request.order)
}

impl PaymentProvider for Till {
    fn name(&self) -> &'static str {
        self.name
    }

    fn authorize(&self, request: &ChargeRequest) -> Answering<ChargeOutcome> {
        let reference = reference(request);
        let url = format!("https://till.example/pay?of={}", request.order);
        self.answer(
            ChargeOutcome::ActionRequired { reference, action: NextAction::Redirect(url) },
            ChargeOutcome::Unknown,
        )
    }

    fn confirm(&self, request: &ChargeRequest, _reference: &str) -> Answering<ChargeOutcome> {
        self.answer(ChargeOutcome::Authorized { reference: reference(request) }, ChargeOutcome::Unknown)
    }

    fn look_up(&self, request: &ChargeRequest, _reference: Option<&str>) -> Answering<ChargeOutcome> {
        self.authorize(request)
    }

    fn capture(&self, _request: &ChargeRequest, _reference: &str) -> Answering<CaptureOutcome> {
        self.answer(CaptureOutcome::Captured, CaptureOutcome::Unknown)
    }

    fn void(&self, _request: &ChargeRequest, _reference: Option<&str>) -> Answering<VoidOutcome> {
        self.answer(VoidOutcome::Voided, VoidOutcome::Unknown)
    }

    fn refund(
        &self,
        _request: &ChargeRequest,
        _reference: &str,
        key: &str,
        _amount: Money,
    ) -> Answering<RefundOutcome> {
        self.answer(RefundOutcome::Refunded { reference: format!("back_{key}") }, RefundOutcome::Unknown)
    }

    fn notice(
        &self,
        header: &dyn Fn(&str) -> Option<String>,
        body: &[u8],
        _now_ms: u64,
    ) -> Answering<Result<Notice, NoticeError>> {
        let notice = match header("till-proof").as_deref() {
            _ if !self.proves => Err(NoticeError::NotConfigured),
            Some("good") => Ok(read(body)),
            Some("old") => Err(NoticeError::Stale { age_s: 900, allowed_s: 300 }),
            Some("later") => Err(NoticeError::Unproved),
            Some(_) | None => Err(NoticeError::BadSignature),
        };
        Box::pin(std::future::ready(notice))
    }

    fn list(&self, since: Timestamp, _after: Option<&str>) -> Answering<Option<PaymentPage>> {
        let mut data = self.listed.lock().unwrap().clone();
        data.retain(|record| record.created_at >= since);
        self.answer(Some(PaymentPage { data, next: None }), None)
    }
}

/// `event order amount`, money that is held; without an order nothing of ours.
fn read(body: &[u8]) -> Notice {
    let text = String::from_utf8_lossy(body);
    let mut words = text.split_whitespace();
    let event = words.next().unwrap_or_default().to_owned();
    let news = words.next().map(|order| PaymentNews {
        order: order.parse().unwrap(),
        reference: format!("till_{order}"),
        amount: Money::new(words.next().unwrap().parse().unwrap(), Currency::GBP),
        standing: Standing::Authorized,
    });
    Notice { event, kind: "till.told".into(), news, failed_refund: None }
}
