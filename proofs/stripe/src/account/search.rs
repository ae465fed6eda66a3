//! Stripe's search over intents: `metadata['order']:'7' AND status:'succeeded'`, not yet finding what is new.

use serde_json::{Value, json};

use super::lists::{expands, limit};
use super::objects::seconds;
use super::{Account, Intent};
use crate::failure::Failure;
use crate::form::Form;

/// What is compared.
enum Field {
    Metadata(String),
    Status,
    Currency,
    Amount,
    Created,
}

/// How it is compared.
#[derive(Clone, Copy)]
enum Relation {
    Is,
    Above,
    Below,
    AtLeast,
    AtMost,
}

/// One comparison.
struct Clause {
    negated: bool,
    field: Field,
    relation: Relation,
    value: String,
}

/// Comparisons of which all hold, or any.
struct Query {
    clauses: Vec<Clause>,
    any: bool,
}

impl Account {
    pub(crate) fn search_intents(&self, form: &Form) -> Result<Value, Failure> {
        form.only(&["expand", "limit", "page", "query"])?;
        let query = Query::parse(form.needed("query")?)?;
        let with_charge = expands(&form.list("expand")?, &["data.latest_charge"])?[0];
        let limit = limit(form)?;
        let end = match form.text("page")? {
            None => self.intents.len(),
            Some(id) => {
                self.intents.get_index_of(id).ok_or_else(|| Failure::missing(400, "page", id, "page"))?
            }
        };
        let known_ms = self.now_ms.saturating_sub(self.search_lag_ms);
        let found = self.intents.values().take(end).rev();
        let found = found.filter(|intent| intent.created_ms <= known_ms && query.holds(intent));
        let mut found: Vec<&Intent> = found.take(limit + 1).collect();
        let has_more = found.len() > limit;
        found.truncate(limit);
        let next_page = found.last().filter(|_| has_more).map(|intent| intent.id.clone());
        let data: Vec<Value> =
            found.into_iter().map(|intent| self.intent_object(intent, with_charge)).collect();
        Ok(json!({
            "object": "search_result",
            "data": data,
            "has_more": has_more,
            "next_page": next_page,
            "url": "/v1/payment_intents/search",
        }))
    }
}

impl Query {
    fn parse(text: &str) -> Result<Self, Failure> {
        let mut rest = text.trim();
        let (mut clauses, mut joined) = (vec![], None);
        loop {
            let (clause, behind) = Clause::parse(rest)?;
            clauses.push(clause);
            rest = behind.trim_start();
            if rest.is_empty() {
                return Ok(Self { clauses, any: joined == Some("OR") });
            }
            let word = rest.split(' ').next().unwrap_or_default();
            let word = ["AND", "OR"].into_iter().find(|known| known.eq_ignore_ascii_case(word));
            match (word, joined) {
                (None, _) => return Err(refused("clauses are joined by AND or by OR")),
                (Some(_), Some(before)) if word != Some(before) => {
                    return Err(refused("AND and OR cannot be mixed"));
                }
                (Some(word), _) => {
                    rest = rest[word.len()..].trim_start();
                    joined = Some(word);
                }
            }
        }
    }

    fn holds(&self, intent: &Intent) -> bool {
        if self.any {
            self.clauses.iter().any(|clause| clause.holds(intent))
        } else {
            self.clauses.iter().all(|clause| clause.holds(intent))
        }
    }
}

impl Clause {
    /// One clause, and what stands behind it.
    fn parse(text: &str) -> Result<(Self, &str), Failure> {
        let (negated, text) = text.strip_prefix('-').map_or((false, text), |text| (true, text));
        let (field, text) = match text.strip_prefix("metadata[") {
            Some(text) => {
                let (name, text) = quoted(text)?;
                let text = text.strip_prefix(']').ok_or_else(|| refused("metadata['name'] lacks its end"))?;
                (Field::Metadata(name.to_owned()), text)
            }
            None => {
                let end = text.find([':', '>', '<']).ok_or_else(|| refused("a clause is field:'value'"))?;
                let field = match &text[..end] {
                    "status" => Field::Status,
                    "currency" => Field::Currency,
                    "amount" => Field::Amount,
                    "created" => Field::Created,
                    other => return Err(refused(&format!("the field {other} cannot be searched"))),
                };
                (field, &text[end..])
            }
        };
        let relations = [
            (">=", Relation::AtLeast),
            ("<=", Relation::AtMost),
            (">", Relation::Above),
            ("<", Relation::Below),
            (":", Relation::Is),
        ];
        let relation =
            relations.into_iter().find_map(|(sign, relation)| Some((relation, text.strip_prefix(sign)?)));
        let (relation, text) = relation.ok_or_else(|| refused("a clause is field:'value'"))?;
        let numeric = matches!(field, Field::Amount | Field::Created);
        if !numeric && !matches!(relation, Relation::Is) {
            return Err(refused("only numbers are greater or less"));
        }
        let (value, behind) = if text.starts_with(['\'', '"']) {
            quoted(text)?
        } else if !numeric {
            return Err(refused("a text stands in quotes"));
        } else {
            text.split_at(text.find(' ').unwrap_or(text.len()))
        };
        if numeric && value.parse::<i64>().is_err() {
            return Err(refused(&format!("{value} is no number")));
        }
        Ok((Self { negated, field, relation, value: value.to_owned() }, behind))
    }

    fn holds(&self, intent: &Intent) -> bool {
        let number = |number: i64| {
            let value = self.value.parse::<i64>().unwrap_or_default();
            match self.relation {
                Relation::Is => number == value,
                Relation::Above => number > value,
                Relation::Below => number < value,
                Relation::AtLeast => number >= value,
                Relation::AtMost => number <= value,
            }
        };
        let holds = match &self.field {
            Field::Metadata(name) => intent.metadata.get(name).is_some_and(|value| *value == self.value),
            Field::Status => intent.status.name() == self.value,
            Field::Currency => intent.currency.eq_ignore_ascii_case(&self.value),
            Field::Amount => number(intent.amount),
            Field::Created => number(i64::try_from(seconds(intent.created_ms)).unwrap_or(i64::MAX)),
        };
        holds != self.negated
    }
}

/// What stands in quotes at the beginning, and what behind them.
fn quoted(text: &str) -> Result<(&str, &str), Failure> {
    let quote = text.chars().next().filter(|first| ['\'', '"'].contains(first));
    let quote = quote.ok_or_else(|| refused("a text stands in quotes"))?;
    text[1..].split_once(quote).ok_or_else(|| refused("a quote lacks its end"))
}

fn refused(said: &str) -> Failure {
    Failure::parameter("query", format!("We were unable to parse your search query: {said}."))
}
