//! Lists: newest first, in pages that follow an object's id.

use indexmap::IndexMap;
use serde_json::{Value, json};

use super::Account;
use super::objects::seconds;
use crate::failure::Failure;
use crate::form::Form;

/// Objects of a page that does not say how many, and of one that says too many.
const LIMIT: i64 = 10;
const LIMIT_MAX: i64 = 100;

/// Which of the properties that can be expanded are asked for; any other is refused.
pub(super) fn expands(asked: &[String], known: &[&str]) -> Result<Vec<bool>, Failure> {
    if let Some(other) = asked.iter().find(|name| !known.contains(&name.as_str())) {
        let said = format!("This property cannot be expanded ({other}).");
        return Err(Failure::parameter("expand", said));
    }
    Ok(known.iter().map(|name| asked.iter().any(|other| other == name)).collect())
}

/// How many objects a page holds.
pub(super) fn limit(form: &Form) -> Result<usize, Failure> {
    let limit = form.integer("limit")?.unwrap_or(LIMIT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        let said = format!("Invalid limit: it must be between 1 and {LIMIT_MAX}");
        return Err(Failure::coded("limit", "parameter_invalid_integer", said));
    }
    Ok(usize::try_from(limit).unwrap_or(1))
}

/// When the objects of a page were made, in seconds: `created=5` or `created[gte]=5`.
struct Created {
    least: i64,
    most: i64,
}

impl Created {
    fn read(form: &Form) -> Result<Self, Failure> {
        let mut created = Self { least: i64::MIN, most: i64::MAX };
        // A number alone is that second.
        if let Ok(Some(at)) = form.integer("created") {
            return Ok(Self { least: at, most: at });
        }
        let Some(range) = form.nested("created")? else { return Ok(created) };
        range.only(&["gt", "gte", "lt", "lte"])?;
        let bound = |name| range.integer(name);
        created.least =
            bound("gte")?.unwrap_or(i64::MIN).max(bound("gt")?.map_or(i64::MIN, |at| at.saturating_add(1)));
        created.most =
            bound("lte")?.unwrap_or(i64::MAX).min(bound("lt")?.map_or(i64::MAX, |at| at.saturating_sub(1)));
        Ok(created)
    }

    fn holds(&self, at_ms: u64) -> bool {
        let at = i64::try_from(seconds(at_ms)).unwrap_or(i64::MAX);
        (self.least..=self.most).contains(&at)
    }
}

/// One page of `of`, which is kept oldest first.
fn page<T>(
    of: &IndexMap<String, T>,
    form: &Form,
    url: &str,
    created_ms: impl Fn(&T) -> u64,
    wanted: impl Fn(&T) -> bool,
    show: impl Fn(&T) -> Value,
) -> Result<Value, Failure> {
    let limit = limit(form)?;
    let created = Created::read(form)?;
    let place = |name: &str| -> Result<Option<usize>, Failure> {
        let Some(id) = form.text(name)? else { return Ok(None) };
        of.get_index_of(id).map(Some).ok_or_else(|| Failure::missing(400, "object", id, name))
    };
    let matches = |object: &&T| created.holds(created_ms(object)) && wanted(object);
    let mut found: Vec<&T> = match (place("starting_after")?, place("ending_before")?) {
        (Some(_), Some(_)) => {
            let said = "You may only specify one of these parameters: ending_before, starting_after.";
            return Err(Failure::parameter("", said));
        }
        (after, None) => {
            let end = after.unwrap_or(of.len());
            of.values().take(end).rev().filter(matches).take(limit + 1).collect()
        }
        (None, Some(before)) => of.values().skip(before + 1).filter(matches).take(limit + 1).collect(),
    };
    let has_more = found.len() > limit;
    found.truncate(limit);
    if form.text("ending_before")?.is_some() {
        found.reverse();
    }
    let data: Vec<Value> = found.into_iter().map(show).collect();
    Ok(json!({"object": "list", "data": data, "has_more": has_more, "url": url}))
}

const PAGE: [&str; 5] = ["created", "ending_before", "expand", "limit", "starting_after"];

impl Account {
    pub(crate) fn list_intents(&self, form: &Form) -> Result<Value, Failure> {
        form.only(&PAGE)?;
        let with_charge = expands(&form.list("expand")?, &["data.latest_charge"])?[0];
        let show = |intent: &_| self.intent_object(intent, with_charge);
        page(&self.intents, form, "/v1/payment_intents", |intent| intent.created_ms, |_| true, show)
    }

    pub(crate) fn list_charges(&self, form: &Form) -> Result<Value, Failure> {
        form.only(&[&PAGE[..], &["payment_intent"]].concat())?;
        expands(&form.list("expand")?, &[])?;
        let intent = form.text("payment_intent")?;
        let wanted = |charge: &super::Charge| intent.is_none_or(|id| id == charge.intent);
        page(
            &self.charges,
            form,
            "/v1/charges",
            |charge| charge.created_ms,
            wanted,
            |charge| self.charge_object(charge),
        )
    }

    pub(crate) fn list_refunds(&self, form: &Form) -> Result<Value, Failure> {
        form.only(&[&PAGE[..], &["charge", "payment_intent"]].concat())?;
        expands(&form.list("expand")?, &[])?;
        let (intent, charge) = (form.text("payment_intent")?, form.text("charge")?);
        let wanted = |refund: &super::Refund| {
            intent.is_none_or(|id| id == refund.intent) && charge.is_none_or(|id| id == refund.charge)
        };
        page(
            &self.refunds,
            form,
            "/v1/refunds",
            |refund| refund.created_ms,
            wanted,
            |refund| self.refund_object(refund, false, false),
        )
    }

    pub(crate) fn list_events(&self, form: &Form) -> Result<Value, Failure> {
        form.only(&[&PAGE[..], &["delivery_success", "type", "types"]].concat())?;
        expands(&form.list("expand")?, &[])?;
        let (kind, kinds) = (form.text("type")?, form.list("types")?);
        let delivered = form.text("delivery_success")?.map(|_| form.flag("delivery_success")).transpose()?;
        let wanted = |event: &super::Event| {
            kind.is_none_or(|kind| kind == event.kind || kind == "*")
                && (kinds.is_empty() || kinds.iter().any(|kind| kind == event.kind))
                && delivered.is_none_or(|delivered| delivered != event.pending)
        };
        page(
            &self.events,
            form,
            "/v1/events",
            |event| event.created_ms,
            wanted,
            |event| self.event_object(event),
        )
    }

    pub(crate) fn show_charge(&self, id: &str, form: &Form) -> Result<Value, Failure> {
        form.only(&["expand"])?;
        expands(&form.list("expand")?, &[])?;
        let charge = self.charges.get(id).ok_or_else(|| Failure::missing(404, "charge", id, "id"))?;
        Ok(self.charge_object(charge))
    }

    pub(crate) fn show_event(&self, id: &str) -> Result<Value, Failure> {
        let event = self.events.get(id).ok_or_else(|| Failure::missing(404, "event", id, "id"))?;
        Ok(self.event_object(event))
    }
}
