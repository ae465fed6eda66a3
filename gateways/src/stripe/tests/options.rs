//! What is wrong with a configuration is said at the start, with its remedy, and no secret is ever said.

use super::*;

#[test]
fn a_configuration_that_cannot_work_is_refused() {
    let usual = || Options::new("sk_test_a");
    let base = |base: &str| Options { api_base: base.to_owned(), ..usual() };
    let live = |base: &str| Options { api_base: base.to_owned(), ..Options::new("sk_live_a") };
    let secret = |secret: &str| Options { webhook_secrets: vec![secret.to_owned()], ..usual() };
    let rows = [
        ("usual", usual(), None),
        ("restricted", Options::new("rk_live_a"), None),
        ("no key", Options::new(""), Some(OptionsError::KeyMissing)),
        ("a publishable key", Options::new("pk_test_a"), Some(OptionsError::KeyKind)),
        ("a webhook secret for a key", Options::new("whsec_a"), Some(OptionsError::KeyKind)),
        ("a beginning", Options::new("sk_test_"), Some(OptionsError::KeyKind)),
        ("no mode", Options::new("sk_a"), Some(OptionsError::KeyKind)),
        ("a line break", Options::new("sk_test_a\n"), Some(OptionsError::KeyCharacters)),
        ("a space before", Options::new(" sk_test_a"), Some(OptionsError::KeyKind)),
        ("a letter beyond ASCII", Options::new("sk_test_ä"), Some(OptionsError::KeyCharacters)),
        ("a webhook secret", secret("whsec_a"), None),
        ("an empty webhook secret", secret(""), Some(OptionsError::WebhookSecret)),
        ("a webhook secret with a line break", secret("whsec_a\n"), Some(OptionsError::WebhookSecret)),
        ("this machine", base("http://127.0.0.1:12111"), None),
        ("this machine, later version", base("http://[::1]:12111/"), None),
        ("this machine by name, live", live("http://localhost:12111"), None),
        ("elsewhere in the clear, test", base("http://stripe:12111"), None),
        (
            "elsewhere in the clear, live",
            live("http://stripe"),
            Some(OptionsError::BasePlain("http://stripe".into())),
        ),
        ("elsewhere, live", live("https://stripe.example"), None),
        ("no scheme", base("api.stripe.com"), Some(OptionsError::Base("api.stripe.com".into()))),
        ("another scheme", base("ftp://a"), Some(OptionsError::Base("ftp://a".into()))),
        ("nothing", base(""), Some(OptionsError::Base(String::new()))),
        ("with version", base("https://a/v1"), Some(OptionsError::Base("https://a/v1".into()))),
        ("with query", base("https://a/?b"), Some(OptionsError::Base("https://a/?b".into()))),
        ("with name", base("https://a@b"), Some(OptionsError::Base("https://a@b".into()))),
        (
            "no calls",
            Options { calls_per_second_max: Some(0), ..usual() },
            Some(OptionsError::Zero("calls a second to Stripe")),
        ),
        (
            "no time",
            Options { request_timeout_ms: 0, ..usual() },
            Some(OptionsError::Zero("the wait for Stripe's answer")),
        ),
    ];
    for (label, options, expected) in rows {
        assert_eq!(Stripe::new(&options).err(), expected, "{label}");
    }
}

#[test]
fn calls_a_second_follow_the_key_unless_said_otherwise() {
    for (key, said, expected) in [
        ("sk_live_a", None, 80),
        ("rk_live_a", None, 80),
        ("sk_test_a", None, 20),
        ("rk_test_a", None, 20),
        ("sk_live_a", Some(500), 500),
    ] {
        let door = Stripe::new(&Options { calls_per_second_max: said, ..Options::new(key) }).unwrap();
        assert_eq!(door.calls_per_second_max(), Some(expected), "{key} {said:?}");
    }
}

#[test]
fn secrets_are_in_no_debug_and_no_error() {
    let options =
        Options { webhook_secrets: vec!["whsec_canary".to_owned()], ..Options::new("sk_test_canary") };
    let door = Stripe::new(&options).unwrap();
    assert_eq!(door.name(), "stripe");
    let errors = [
        Stripe::new(&Options::new("canary")).unwrap_err(),
        Stripe::new(&Options::new("sk_test_canary\n")).unwrap_err(),
        Stripe::new(&Options { webhook_secrets: vec!["canary ".to_owned()], ..options.clone() }).unwrap_err(),
    ];
    let said = format!(
        "{options:?} {door:?} {errors:?} {}",
        errors.clone().map(|error| error.to_string()).join(" ")
    );
    assert!(!said.contains("canary"), "{said}");
}
