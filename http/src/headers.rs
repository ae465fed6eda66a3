//! Headers that count once: whoever stands between may read another copy than we do, so a second one is refused.

use actix_web::http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, IF_MATCH};

use crate::door::{CART_TOKEN, IDEMPOTENCY_KEY};
use crate::problem::Problem;

/// Refuses a header that is given twice where one would silently win: whoever stands in between may pick the other.
pub(crate) fn refuse_doubled(headers: &HeaderMap) -> Result<(), Problem> {
    // The usual request has each header once, which two counts tell.
    if headers.len() == headers.len_keys() {
        return Ok(());
    }
    for name in [&IDEMPOTENCY_KEY, &AUTHORIZATION, &CART_TOKEN, &IF_MATCH, &CONTENT_TYPE, &CONTENT_ENCODING] {
        if headers.get_all(name).nth(1).is_some() {
            return Err(Problem::malformed(format!("the header {name} is given twice; send it once")));
        }
    }
    Ok(())
}
