//! As much of JSON Schema as the schemas here use; a word it does not know is an offence, so none goes unchecked.

use serde_json::Value;

/// Checks `value` against `schema`; the offence, if any.
pub(crate) fn check(schema: &Value, value: &Value) -> Result<(), String> {
    let words = schema.as_object().ok_or("a schema is an object")?;
    for (word, rule) in words {
        let sound = match word.as_str() {
            "$schema" | "$id" | "title" | "description" => true,
            // The times are made by one function, which the pattern of milliseconds tells well enough.
            "format" => value.as_str().is_some_and(|text| text.len() == 24 && text.ends_with('Z')),
            "type" => match rule.as_str() {
                Some("object") => value.is_object(),
                Some("array") => value.is_array(),
                Some("string") => value.is_string(),
                Some("integer") => value.is_i64(),
                Some("boolean") => value.is_boolean(),
                _ => return Err(format!("an unknown type {rule}")),
            },
            "const" => value == rule,
            "enum" => rule.as_array().is_some_and(|values| values.contains(value)),
            "minimum" => value.as_i64() >= rule.as_i64(),
            "minLength" => value.as_str().map(|text| text.len() as u64) >= rule.as_u64(),
            "maxLength" => value.as_str().map(|text| text.len() as u64) <= rule.as_u64(),
            "pattern" => matches(rule.as_str().unwrap_or_default(), value.as_str().unwrap_or_default())?,
            "required" => rule
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .all(|name| value.get(name).is_some()),
            "additionalProperties" => value
                .as_object()
                .is_none_or(|fields| fields.keys().all(|name| schema["properties"].get(name).is_some())),
            "properties" => {
                for (name, rule) in rule.as_object().into_iter().flatten() {
                    if let Some(value) = value.get(name) {
                        check(rule, value).map_err(|offence| format!("{name}: {offence}"))?;
                    }
                }
                true
            }
            "items" => {
                for value in value.as_array().into_iter().flatten() {
                    check(rule, value)?;
                }
                true
            }
            _ => return Err(format!("an unknown word {word}")),
        };
        if !sound {
            return Err(format!("{value} offends against {word} {rule}"));
        }
    }
    Ok(())
}

/// `^literal[classes]{count}$`, the one shape of pattern there is.
fn matches(pattern: &str, text: &str) -> Result<bool, String> {
    let unknown = || format!("an unknown pattern {pattern}");
    let inner = pattern.strip_prefix('^').and_then(|rest| rest.strip_suffix("}$")).ok_or_else(unknown)?;
    let (literal, rest) = inner.split_once('[').ok_or_else(unknown)?;
    let (classes, count) = rest.split_once("]{").ok_or_else(unknown)?;
    let count: usize = count.parse().map_err(|_| unknown())?;
    let allowed = |c: char| match classes {
        "0-9a-f" => matches!(c, '0'..='9' | 'a'..='f'),
        "0-9" => c.is_ascii_digit(),
        "A-Z" => c.is_ascii_uppercase(),
        _ => false,
    };
    Ok(text.strip_prefix(literal).is_some_and(|rest| rest.len() == count && rest.chars().all(allowed)))
}

#[test]
fn the_checker_bites() {
    let schema = serde_json::json!({
        "type": "object", "required": ["id"], "additionalProperties": false,
        "properties": {"id": {"type": "string", "pattern": "^evt_[0-9a-f]{4}$"}, "n": {"type": "integer", "minimum": 1}},
    });
    assert!(check(&schema, &serde_json::json!({"id": "evt_00af", "n": 3})).is_ok());
    for wrong in [
        serde_json::json!([]),
        serde_json::json!({}),
        serde_json::json!({"id": "evt_00ag"}),
        serde_json::json!({"id": "evt_00aff"}),
        serde_json::json!({"id": "evt_00af", "n": 0}),
        serde_json::json!({"id": "evt_00af", "more": 0}),
    ] {
        assert!(check(&schema, &wrong).is_err(), "{wrong}");
    }
    assert!(check(&serde_json::json!({"oneOf": []}), &serde_json::json!(1)).is_err());
}
