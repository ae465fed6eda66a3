//! `serve --demo`: a small catalogue of our own, so that a newcomer has something to buy.

use std::time::{Duration, Instant};

use doorbuster_actors::Engine;
use doorbuster_engine::answer::Refusal;
use doorbuster_engine::identity::Sku;
use doorbuster_engine::money::{Currency, Money};
use doorbuster_engine::stock::{Definition, Oversell};

/// SKU, name, price in pence, units, mark of low stock.
const CATALOGUE: [(&str, &str, i64, i64, i64); 12] = [
    ("TEE-S", "Doorbuster tee, small", 1_999, 500, 50),
    ("TEE-M", "Doorbuster tee, medium", 1_999, 800, 50),
    ("TEE-L", "Doorbuster tee, large", 1_999, 500, 50),
    ("MUG-RED", "Enamel mug, red", 1_250, 300, 20),
    ("MUG-BLUE", "Enamel mug, blue", 1_250, 300, 20),
    ("LAMP-01", "Desk lamp, brass", 8_900, 40, 5),
    ("CHAIR-OAK", "Folding chair, oak", 12_500, 25, 5),
    ("KETTLE", "Stove kettle, 2 litres", 4_450, 120, 10),
    ("VINYL-7", "Seven-inch single, numbered", 1_500, 1_000, 100),
    ("SNEAKER-42", "Runner, limited edition, size 42", 17_900, 64, 10),
    ("POSTER-A2", "Poster, A2", 900, 2_000, 100),
    ("GIFT-BOX", "Gift box", 350, 5_000, 200),
];

/// Makes the SKUs that are not there yet; those that are keep their stock. Says how many it made.
pub async fn fill(engine: &Engine) -> Result<usize, Refusal> {
    let mut made = 0;
    for (name, title, price, units, low_stock_at) in CATALOGUE {
        if engine.catalogue().get(name).is_some() {
            continue;
        }
        let Ok(sku) = Sku::new(name) else { continue };
        let definition = Definition {
            name: title.into(),
            price: Money::new(price, Currency::GBP),
            oversell: Oversell::Deny,
            reservation_ttl_ms: None,
            low_stock_at: Some(low_stock_at),
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        let ticket = engine.ticket("demo", None, "PUT", name, b"", deadline);
        engine.define_sku(ticket, sku, definition, Some(units)).await?;
        made += 1;
    }
    Ok(made)
}

/// Three commands that work as they stand.
pub fn curl_lines(url: &str, admin_key: &str) -> [String; 3] {
    [
        format!("curl '{url}/v1/skus?limit=3'"),
        format!(
            "curl -X POST {url}/v1/reservations -H 'Content-Type: application/json' -H 'Idempotency-Key: first-1' \
             -d '{{\"items\":[{{\"sku\":\"TEE-M\",\"quantity\":1}}]}}'"
        ),
        format!("curl {url}/v1/admin/skus/TEE-M/stock -H 'Authorization: Bearer {admin_key}'"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demonstration_catalogue_is_sound() {
        let mut names: Vec<_> = CATALOGUE.iter().map(|row| row.0).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CATALOGUE.len());
        for (name, _, price, units, low_stock_at) in CATALOGUE {
            assert!(Sku::new(name).is_ok() && price > 0 && units > low_stock_at, "{name}");
        }
    }
}
