//! What Stripe's clients send: form-encoded pairs whose names nest in brackets, `metadata[order]=7` or `expand[]=data`.
//!
//! Law: nothing is overlooked. Whoever reads a form names what it knows, and [`Form::only`] refuses the rest, as Stripe does.

use crate::failure::Failure;

/// Levels of brackets; deeper ones are refused so that a hostile name cannot exhaust the stack.
const DEPTH_MAX: usize = 8;

/// Pairs of one form.
const PAIRS_MAX: usize = 1_000;

/// A value: text, or named values in the order in which they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Text(String),
    Nested(Form),
}

/// Named values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Form {
    fields: Vec<(String, Value)>,
}

impl Form {
    /// Reads a body or a query.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Failure> {
        let mut form = Self::default();
        for (count, (name, value)) in form_urlencoded::parse(bytes).enumerate() {
            if count >= PAIRS_MAX {
                return Err(Failure::parameter("", format!("More than {PAIRS_MAX} parameters")));
            }
            let malformed = || Failure::parameter(&name, format!("Invalid parameter name: {name}"));
            let mut path = vec![];
            let (head, rest) = name.split_once('[').map_or((&*name, None), |(head, rest)| (head, Some(rest)));
            path.push(head);
            if let Some(rest) = rest {
                path.extend(rest.strip_suffix(']').ok_or_else(malformed)?.split("]["));
            }
            let odd = |part: &&str| part.contains(['[', ']']);
            if head.is_empty() || path.len() > DEPTH_MAX || path.iter().any(odd) {
                return Err(malformed());
            }
            form.put(&path, value.into_owned()).map_err(|()| malformed())?;
        }
        Ok(form)
    }

    fn put(&mut self, path: &[&str], text: String) -> Result<(), ()> {
        let Some((head, rest)) = path.split_first() else { return Err(()) };
        // `[]` is the next place of a list.
        let name = if head.is_empty() { self.fields.len().to_string() } else { (*head).to_owned() };
        let known = self.fields.iter_mut().find(|(other, _)| *other == name);
        match (known, rest.is_empty()) {
            (Some((_, Value::Text(old))), true) => *old = text,
            (Some((_, Value::Nested(form))), false) => return form.put(rest, text),
            // A name that is text once and nested once means neither.
            (Some(_), _) => return Err(()),
            (None, true) => self.fields.push((name, Value::Text(text))),
            (None, false) => {
                let mut form = Self::default();
                form.put(rest, text)?;
                self.fields.push((name, Value::Nested(form)));
            }
        }
        Ok(())
    }

    /// Refuses any name besides these, as Stripe refuses what it does not know.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), Failure> {
        match self.fields.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some((name, _)) => {
                let mut failure = Failure::parameter(name, format!("Received unknown parameter: {name}"));
                failure.code = Some("parameter_unknown".to_owned());
                Err(failure)
            }
        }
    }

    /// The text under this name. Empty counts as unsaid, as with Stripe where it does not unset.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, Failure> {
        match self.fields.iter().find(|(other, _)| other == name) {
            None => Ok(None),
            Some((_, Value::Text(text))) if text.is_empty() => Ok(None),
            Some((_, Value::Text(text))) => Ok(Some(text)),
            Some((_, Value::Nested(_))) => Err(Failure::parameter(name, "Invalid string")),
        }
    }

    /// The text under this name, which has to be there.
    pub(crate) fn needed(&self, name: &str) -> Result<&str, Failure> {
        self.text(name)?.ok_or_else(|| {
            let mut failure = Failure::parameter(name, format!("Missing required param: {name}."));
            failure.code = Some("parameter_missing".to_owned());
            failure
        })
    }

    /// A whole number.
    pub(crate) fn integer(&self, name: &str) -> Result<Option<i64>, Failure> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        match text.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => {
                let mut failure = Failure::parameter(name, format!("Invalid integer: {text}"));
                failure.code = Some("parameter_invalid_integer".to_owned());
                Err(failure)
            }
        }
    }

    /// `true` or `false`; unsaid is `false`.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Failure> {
        match self.text(name)? {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(Failure::parameter(name, format!("Invalid boolean: {other}"))),
        }
    }

    /// One of these words.
    pub(crate) fn word<'form>(
        &'form self,
        name: &str,
        words: &[&str],
    ) -> Result<Option<&'form str>, Failure> {
        match self.text(name)? {
            Some(word) if !words.contains(&word) => {
                let words = words.join(", ");
                Err(Failure::parameter(name, format!("Invalid {name}: must be one of {words}")))
            }
            said => Ok(said),
        }
    }

    /// The form nested under this name.
    pub(crate) fn nested(&self, name: &str) -> Result<Option<&Form>, Failure> {
        match self.fields.iter().find(|(other, _)| other == name) {
            Some((_, Value::Nested(form))) => Ok(Some(form)),
            Some((_, Value::Text(text))) if !text.is_empty() => {
                Err(Failure::parameter(name, format!("Invalid object: {text}")))
            }
            Some(_) | None => Ok(None),
        }
    }

    /// Names and texts of a form that nests no deeper.
    pub(crate) fn pairs(&self, of: &str) -> Result<Vec<(String, String)>, Failure> {
        let pairs = self.fields.iter().map(|(name, value)| match value {
            Value::Text(text) => Ok((name.clone(), text.clone())),
            Value::Nested(_) => Err(Failure::parameter(of, format!("Invalid string under {of}[{name}]"))),
        });
        pairs.collect()
    }

    /// The texts of the list under this name.
    pub(crate) fn list(&self, name: &str) -> Result<Vec<String>, Failure> {
        let Some(form) = self.nested(name)? else { return Ok(vec![]) };
        Ok(form.pairs(name)?.into_iter().map(|(_, text)| text).collect())
    }

    /// Whether nothing was said.
    pub(crate) fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// One text for forms that say the same, in whatever order: what idempotency keys compare.
    pub(crate) fn fingerprint(&self) -> String {
        let mut parts: Vec<String> = self
            .fields
            .iter()
            .map(|(name, value)| match value {
                Value::Text(text) => format!("{name:?}:{text:?}"),
                Value::Nested(form) => format!("{name:?}:{}", form.fingerprint()),
            })
            .collect();
        parts.sort();
        format!("{{{}}}", parts.join(","))
    }
}
