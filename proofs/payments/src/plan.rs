//! What each shopper does, drawn from the seed and the shopper's number alone; and the shop that they visit.

use crate::chance::Chance;

/// SKUs of which there is plenty, `SKU-0` and so on.
pub(crate) const PLENTY: u64 = 24;

/// The SKU of which there is too little.
pub(crate) const SCARCE: &str = "LAST-UNITS";

/// Shoppers in a thousand who want it too.
const WANT_SCARCE: u64 = 30;

/// One of the shop's SKUs.
#[derive(Clone, Debug)]
pub(crate) struct Article {
    pub(crate) sku: String,
    /// Minor units of GBP: Stripe charges 30 or more.
    pub(crate) price: i64,
    pub(crate) opening: i64,
}

/// What is for sale to so many shoppers.
pub(crate) fn articles(shoppers: u64) -> Vec<Article> {
    let plenty = (0..PLENTY).map(|number| Article {
        sku: format!("SKU-{number}"),
        // Odd prices, so that no sum hides another.
        price: 101 + i64::try_from(number * number * 37).unwrap_or(0),
        opening: 100_000_000,
    });
    // A third of those who want it, and at least one, may have it.
    let opening = i64::try_from(shoppers * WANT_SCARCE / 3_000).unwrap_or(0).max(1);
    plenty.chain([Article { sku: SCARCE.to_owned(), price: 4_999, opening }]).collect()
}

/// How a shopper pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// By a card that asks nothing.
    Card,
    /// 3-D Secure, and back at once.
    Returns,
    /// 3-D Secure, and back once the webhook has finished the order.
    ReturnsLate,
    /// 3-D Secure, and never back: only the webhook tells.
    Leaves,
    /// Gone before 3-D Secure.
    Abandons,
    /// 3-D Secure fails, and back.
    Fails,
    /// Cancels instead of passing 3-D Secure.
    Cancels,
}

/// What a shopper does once the order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Afterwards {
    Nothing,
    Cancel,
    RefundAll {
        restock: bool,
    },
    /// One unit of the first line, by line.
    RefundUnit {
        restock: bool,
    },
    /// Some pence, for a scratch.
    RefundSome,
}

/// Shares in a thousand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shares {
    /// Asked for 3-D Secure.
    pub(crate) authentication: u64,
    /// Cancel, refund all and refund a part, each.
    pub(crate) afterwards: u64,
}

/// One shopper.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// SKU and quantity.
    pub(crate) items: Vec<(String, i64)>,
    pub(crate) way: Way,
    pub(crate) afterwards: Afterwards,
    /// Whether the checkout is sent once more after its answer.
    pub(crate) repeats: bool,
    /// Whether it is sent once more at the very end.
    pub(crate) repeats_at_the_end: bool,
}

impl Plan {
    pub(crate) fn of(seed: u64, number: u64, shares: Shares) -> Self {
        let mut chance = Chance::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(number));
        let lines = 1 + chance.below(3);
        let first = chance.below(PLENTY);
        let mut items: Vec<(String, i64)> = (0..lines)
            .map(|line| {
                let quantity = 1 + i64::try_from(chance.below(3)).unwrap_or(0);
                (format!("SKU-{}", (first + line * 7) % PLENTY), quantity)
            })
            .collect();
        if chance.per_thousand(WANT_SCARCE) {
            items.push((SCARCE.to_owned(), 1));
        }
        let way = if chance.per_thousand(shares.authentication) {
            match chance.below(8) {
                0..=2 => Way::Returns,
                3 => Way::ReturnsLate,
                4 => Way::Leaves,
                5 => Way::Abandons,
                6 => Way::Fails,
                _ => Way::Cancels,
            }
        } else {
            Way::Card
        };
        let restock = chance.per_thousand(500);
        let afterwards = match chance.below(1_000) / shares.afterwards.max(1) {
            _ if shares.afterwards == 0 => Afterwards::Nothing,
            0 => Afterwards::Cancel,
            1 => Afterwards::RefundAll { restock },
            2 if chance.per_thousand(500) => Afterwards::RefundUnit { restock },
            2 => Afterwards::RefundSome,
            _ => Afterwards::Nothing,
        };
        Self {
            items,
            way,
            afterwards,
            repeats: chance.per_thousand(50),
            repeats_at_the_end: chance.per_thousand(20),
        }
    }

    /// The test payment method, in Stripe's names.
    pub(crate) fn method(&self) -> &'static str {
        match self.way {
            Way::Card => "pm_card_visa",
            Way::Returns | Way::ReturnsLate | Way::Leaves | Way::Abandons | Way::Fails | Way::Cancels => {
                "pm_card_authenticationRequired"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_plans_the_same_shoppers_and_every_kind_of_them() {
        let shares = Shares { authentication: 50, afterwards: 20 };
        let plans: Vec<Plan> = (0..20_000).map(|number| Plan::of(7, number, shares)).collect();
        let again: Vec<Plan> = (0..20_000).map(|number| Plan::of(7, number, shares)).collect();
        assert_eq!(format!("{plans:?}"), format!("{again:?}"));
        let share = |of: &dyn Fn(&Plan) -> bool| plans.iter().filter(|plan| of(plan)).count();
        let rows: [(&str, usize, std::ops::Range<usize>); 9] = [
            ("3-D Secure", share(&|plan| plan.way != Way::Card), 850..1_150),
            ("leave", share(&|plan| plan.way == Way::Leaves), 75..175),
            ("abandon", share(&|plan| plan.way == Way::Abandons), 75..175),
            ("late", share(&|plan| plan.way == Way::ReturnsLate), 75..175),
            ("cancel", share(&|plan| plan.afterwards == Afterwards::Cancel), 320..480),
            ("refund all", share(&|plan| matches!(plan.afterwards, Afterwards::RefundAll { .. })), 320..480),
            (
                "refund a unit",
                share(&|plan| matches!(plan.afterwards, Afterwards::RefundUnit { .. })),
                140..260,
            ),
            ("refund some", share(&|plan| plan.afterwards == Afterwards::RefundSome), 140..260),
            ("scarce", share(&|plan| plan.items.iter().any(|(sku, _)| sku == SCARCE)), 500..700),
        ];
        for (what, seen, expected) in rows {
            assert!(expected.contains(&seen), "{what}: {seen} of 20,000");
        }
    }
}
