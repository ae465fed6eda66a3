//! Every decision and verdict of an order, one row each.

use super::*;
use crate::answer::ReservationState;

impl Bench {
    /// State, payment, obligations and money, as the tables spell them.
    fn shown(&self) -> (String, String) {
        let items = |items: &[Item]| {
            items.iter().map(|item| format!("{}*{}", item.sku, item.quantity)).collect::<Vec<_>>().join(",")
        };
        let work = |obligation: &OrderObligation| match obligation {
            OrderObligation::HoldUnits(units) => format!("hold:{}", items(units)),
            OrderObligation::Charge(charge) => format!("charge:{}", charge.amount.amount),
            OrderObligation::LookUp { .. } => "look_up".into(),
            OrderObligation::AwaitProvider { since } => format!("await:{}", since.0),
            OrderObligation::Capture { reference, .. } => format!("capture:{reference}"),
            OrderObligation::ReturnStray { reference, .. } => format!("return:{reference}"),
            OrderObligation::Confirm { reference, .. } => format!("confirm:{reference}"),
            OrderObligation::Void { reference, .. } => {
                format!("void:{}", reference.as_deref().unwrap_or("?"))
            }
            OrderObligation::SellUnits(_) => "sell".into(),
            OrderObligation::FreeUnits(_) => "free".into(),
            OrderObligation::TellCart { placed, .. } => {
                if *placed { "tell_placed" } else { "tell_failed" }.into()
            }
            OrderObligation::Refund { refund, amount, .. } => {
                format!("refund:R{}:{}", refund.0, amount.amount)
            }
            OrderObligation::Restock { refund, items: units } => {
                format!("restock:R{}:{}", refund.0, items(units))
            }
        };
        let obligations: Vec<_> = self.order.obligations().iter().map(work).collect();
        let view = self.order.view();
        let payment = format!("{:?}", view.payment_state).to_lowercase();
        let state =
            format!("{}/{payment}/{}-{}", view.state.name(), view.captured.amount, view.refunded.amount);
        (state, if obligations.is_empty() { "-".into() } else { obligations.join("+") })
    }
}

/// `1*2,2*1`: line and units; `-` for none named.
fn units(text: &str) -> Option<Vec<LineUnits>> {
    let unit = |text: &str| {
        let (line, quantity) = text.split_once('*').unwrap();
        LineUnits { line: line.parse().unwrap(), quantity: quantity.parse().unwrap() }
    };
    match text {
        "" | "-" => None,
        "none" => Some(Vec::new()),
        text => Some(text.split(',').map(unit).collect()),
    }
}

/// `5` or `5EUR`; nothing for no number.
fn money(text: &str) -> Option<Money> {
    let digits = text.trim_end_matches("EUR");
    let currency = if digits == text { Currency::GBP } else { Currency::EUR };
    digits.parse().ok().map(|amount| Money::new(amount, currency))
}

/// `event:standing:amount:reference`; by default over all of the order, and about its own charge.
fn notice(event: &str, standing: &str, amount: &str, reference: &str) -> OrderCommand {
    let standing = match standing {
        "open" => Standing::Open,
        "authorized" => Standing::Authorized,
        "captured" => Standing::Captured,
        "cancelled" => Standing::Cancelled,
        _ => panic!("no such standing: {standing}"),
    };
    let amount = money(amount).unwrap_or(Money::new(1300, Currency::GBP));
    let reference = if reference.is_empty() { "ch" } else { reference }.into();
    OrderCommand::Notice {
        event: event.into(),
        news: PaymentNews { order: ORDER, reference, amount, standing },
    }
}

/// `op:argument:…`: `refund:2:500:1*1:keep` gives back 500 for one unit of line 1 as refund 2 without restocking.
pub(super) fn command(text: &str) -> OrderCommand {
    let mut words = text.split(':');
    let op = words.next().unwrap();
    let mut word = || words.next().unwrap_or_default();
    let reference = || "ch".to_owned();
    match op {
        "start" => OrderCommand::Start(Box::new(draft(false))),
        "start_free" => OrderCommand::Start(Box::new(draft(true))),
        "held" => OrderCommand::UnitsHeld { defer_ms: word().parse().ok() },
        "short" => OrderCommand::UnitsRefused {
            shortages: vec![Shortage { sku: Sku::new("A").unwrap(), requested: 1, available: 0 }],
        },
        "captured" => OrderCommand::ChargeAnswered(ChargeOutcome::Captured { reference: reference() }),
        "declined" => {
            OrderCommand::ChargeAnswered(ChargeOutcome::Declined { reason: "no".into(), retryable: true })
        }
        "action" => OrderCommand::ChargeAnswered(ChargeOutcome::ActionRequired {
            reference: reference(),
            action: NextAction::ClientSecret("s".into()),
        }),
        "redirect" => OrderCommand::ChargeAnswered(ChargeOutcome::ActionRequired {
            reference: reference(),
            action: NextAction::Redirect("page".into()),
        }),
        "authorized" => OrderCommand::ChargeAnswered(ChargeOutcome::Authorized { reference: reference() }),
        "capture_done" => OrderCommand::CaptureAnswered(CaptureOutcome::Captured),
        "capture_lost" => OrderCommand::CaptureAnswered(CaptureOutcome::Lost { reason: "no".into() }),
        "capture_unknown" => OrderCommand::CaptureAnswered(CaptureOutcome::Unknown),
        "ready" => OrderCommand::ProviderReady,
        "notice" => notice(word(), word(), word(), word()),
        "stray_back" => {
            OrderCommand::StrayAnswered { reference: word().into(), outcome: StrayOutcome::Returned }
        }
        "stray_refused" => OrderCommand::StrayAnswered {
            reference: word().into(),
            outcome: StrayOutcome::Refused { reason: "no".into() },
        },
        "unknown" => OrderCommand::ChargeAnswered(ChargeOutcome::Unknown),
        "voided" => OrderCommand::VoidAnswered(VoidOutcome::Voided),
        "void_too_late" => {
            OrderCommand::VoidAnswered(VoidOutcome::AlreadyCaptured { reference: reference() })
        }
        "void_unknown" => OrderCommand::VoidAnswered(VoidOutcome::Unknown),
        "refunded" | "refund_refused" | "refund_unknown" => OrderCommand::RefundAnswered {
            refund: RefundId(word().parse().unwrap()),
            outcome: match op {
                "refunded" => RefundOutcome::Refunded { reference: "re".into() },
                "refund_refused" => RefundOutcome::Refused { reason: "no".into() },
                _ => RefundOutcome::Unknown,
            },
        },
        "sold" => OrderCommand::UnitsSold,
        "freed" => OrderCommand::UnitsFreed,
        "restocked" => OrderCommand::UnitsRestocked { refund: RefundId(word().parse().unwrap()) },
        "told" => OrderCommand::CartTold,
        "wake" => OrderCommand::Wake,
        "confirm" => OrderCommand::Confirm,
        "cancel" => OrderCommand::Cancel { refund: RefundId(word().parse().unwrap()) },
        "refund" => {
            let refund = RefundId(word().parse().unwrap());
            OrderCommand::Refund {
                refund,
                amount: money(word()),
                lines: units(word()),
                restock: word() != "keep",
                reason: None,
            }
        }
        "fulfil" => OrderCommand::Fulfil {
            fulfilment: FulfilmentId(word().parse().unwrap()),
            lines: units(word()),
            tracking: Some("T".into()),
        },
        "read" => OrderCommand::Read,
        _ => panic!("no such op: {op}"),
    }
}

/// Runs a table, and says which decisions and verdicts it reached.
pub(super) fn check(table: &str) -> BTreeSet<String> {
    let mut bench = Bench::new();
    let mut reached = BTreeSet::new();
    for row in table.lines().map(str::trim).filter(|row| !row.is_empty() && !row.starts_with("op ")) {
        if row == "new" {
            bench = Bench::new();
            continue;
        }
        let columns: Vec<_> = row.split_whitespace().collect();
        let [op, now, key, decision, told, state, work] = columns[..] else {
            panic!("seven columns, please: {row}");
        };
        let request = key.strip_prefix('K').map(|key| stamp(key.parse().unwrap()));
        let now = Timestamp(now.parse().unwrap());
        let turn = bench.turn(&Envelope { now, request, command: command(op) });
        bench.check_replay();
        let verdict = |settlement: &Settlement| {
            let name = match &settlement.verdict {
                Ok(answer) => name_of_answer(answer),
                Err(refusal) => name_of_refusal(refusal),
            };
            reached.insert(name.clone());
            format!("K{}:{name}", settlement.request.key.0)
        };
        let mut said: Vec<_> = turn.settlements.iter().map(verdict).collect();
        let decided = match &turn.decision {
            Decision::Change(events) => {
                reached.extend(events.iter().map(|event| name_of_event(event).to_owned()));
                events.iter().map(name_of_event).collect::<Vec<_>>().join("+")
            }
            Decision::Answer(answer) => {
                said.push(name_of_answer(answer));
                "answer".into()
            }
            Decision::Refuse(refusal) => {
                said.push(name_of_refusal(refusal));
                reached.insert(name_of_refusal(refusal));
                "refuse".into()
            }
            Decision::Nothing => "nothing".into(),
            Decision::Join => "join".into(),
        };
        let said = if said.is_empty() { "-".into() } else { said.join(",") };
        let shown = bench.shown();
        assert_eq!(
            (decided.as_str(), said.as_str(), shown.0.as_str(), shown.1.as_str()),
            (decision, told, state, work),
            "{row}"
        );
        reached.insert(decided);
        let kinds = shown.1.split('+').filter_map(|work| work.split(':').next());
        reached.extend(kinds.map(|kind| format!("work {kind}")));
    }
    reached
}

const PAID: &str = "
    op                now  key  decision        told                  state                         work
    read                0  K1   refuse          not_found             pending_payment/none/0-0      -
    confirm             0  K1   refuse          not_found             pending_payment/none/0-0      -
    cancel:9            0  K1   refuse          not_found             pending_payment/none/0-0      -
    refund:9            0  K1   refuse          not_found             pending_payment/none/0-0      -
    fulfil:9            0  K1   refuse          not_found             pending_payment/none/0-0      -
    held                0  -    nothing         -                     pending_payment/none/0-0      -
    captured            0  -    nothing         -                     pending_payment/none/0-0      -
    start               0  K1   started         -                     pending_payment/none/0-0      hold:A*1,B*2
    start               0  K1   join            -                     pending_payment/none/0-0      hold:A*1,B*2
    confirm             0  K2   refuse          in_progress           pending_payment/none/0-0      hold:A*1,B*2
    cancel:9            0  K2   refuse          in_progress           pending_payment/none/0-0      hold:A*1,B*2
    refund:9            0  K2   refuse          illegal_from_pending_payment pending_payment/none/0-0 hold:A*1,B*2
    fulfil:9            0  K2   refuse          illegal_from_pending_payment pending_payment/none/0-0 hold:A*1,B*2
    captured            0  -    nothing         -                     pending_payment/none/0-0      hold:A*1,B*2
    sold                0  -    nothing         -                     pending_payment/none/0-0      hold:A*1,B*2
    freed               0  -    nothing         -                     pending_payment/none/0-0      hold:A*1,B*2
    told                0  -    nothing         -                     pending_payment/none/0-0      hold:A*1,B*2
    wake              999  -    nothing         -                     pending_payment/none/0-0      hold:A*1,B*2
    held                1  -    units_reserved  -                     pending_payment/pending/0-0   charge:1300
    held                1  -    nothing         -                     pending_payment/pending/0-0   charge:1300
    short               1  -    nothing         -                     pending_payment/pending/0-0   charge:1300
    voided              1  -    nothing         -                     pending_payment/pending/0-0   charge:1300
    confirm             1  K2   answered        K2:pending            pending_payment/pending/0-0   charge:1300
    wake               99  -    nothing         -                     pending_payment/pending/0-0   charge:1300
    captured           99  -    placed          K1:placed_paid        paid/captured/1300-0          sell+tell_placed
    captured           99  -    nothing         -                     paid/captured/1300-0          sell+tell_placed
    declined           99  -    nothing         -                     paid/captured/1300-0          sell+tell_placed
    start              99  K1   nothing         -                     paid/captured/1300-0          sell+tell_placed
    confirm            99  K2   answered        K2:placed_paid        paid/captured/1300-0          sell+tell_placed
    freed              99  -    nothing         -                     paid/captured/1300-0          sell+tell_placed
    told               99  -    cart_told       -                     paid/captured/1300-0          sell
    sold               99  -    units_sold      -                     paid/captured/1300-0          -
    sold               99  -    nothing         -                     paid/captured/1300-0          -
    told               99  -    nothing         -                     paid/captured/1300-0          -
    wake              999  -    nothing         -                     paid/captured/1300-0          -
    read              999  K3   answer          order_paid            paid/captured/1300-0          -
    new
    start_free          0  K1   started         -                     pending_payment/none/0-0      hold:A*2
    held                1  -    units_reserved+placed K1:placed_paid  paid/notrequired/0-0          sell+tell_placed
    sold                1  -    units_sold      -                     paid/notrequired/0-0          tell_placed
    told                1  -    cart_told       -                     paid/notrequired/0-0          -
    cancel:1            1  K2   cancel_requested+refund_succeeded K2:order_cancelled cancelled/notrequired/0-0 restock:R1:A*2
";

const UNPAID: &str = "
    op                now  key  decision        told                  state                         work
    start               0  K1   started         -                     pending_payment/none/0-0      hold:A*1,B*2
    short               0  -    units_refused   K1:insufficient_stock cancelled/none/0-0            free
    short               0  -    nothing         -                     cancelled/none/0-0            free
    held                0  -    nothing         -                     cancelled/none/0-0            free
    told                0  -    nothing         -                     cancelled/none/0-0            free
    freed               0  -    units_freed     -                     cancelled/none/0-0            tell_failed
    freed               0  -    nothing         -                     cancelled/none/0-0            tell_failed
    told                0  -    cart_told       -                     cancelled/none/0-0            -
    confirm             0  K2   refuse          illegal_from_cancelled cancelled/none/0-0           -
    cancel:1            0  K2   answered        K2:order_cancelled    cancelled/none/0-0            -
    refund:1            0  K2   refuse          illegal_from_cancelled cancelled/none/0-0           -
    new
    start               0  K1   started         -                     pending_payment/none/0-0      hold:A*1,B*2
    held                0  -    units_reserved  -                     pending_payment/pending/0-0   charge:1300
    declined            0  -    payment_declined K1:declined_no       cancelled/declined/0-0        free
    captured            0  -    nothing         -                     cancelled/declined/0-0        free
    freed               0  -    units_freed     -                     cancelled/declined/0-0        tell_failed
    told                0  -    cart_told       -                     cancelled/declined/0-0        -
";

const OPEN: &str = "
    op                now  key  decision          told                state                              work
    start               0  K1   started           -                   pending_payment/none/0-0           hold:A*1,B*2
    held                0  -    units_reserved    -                   pending_payment/pending/0-0        charge:1300
    unknown             1  -    payment_unanswered K1:pending         pending_payment/pending/0-0        look_up
    unknown             1  -    nothing           -                   pending_payment/pending/0-0        look_up
    confirm             1  K2   answered          K2:pending          pending_payment/pending/0-0        look_up
    action              2  -    action_required   -                   pending_payment/requiresaction/0-0 -
    action              2  -    nothing           -                   pending_payment/requiresaction/0-0 -
    unknown             2  -    nothing           -                   pending_payment/requiresaction/0-0 -
    confirm             3  K3   confirm_requested -                   pending_payment/pending/0-0        confirm:ch
    confirm             3  K3   join              -                   pending_payment/pending/0-0        confirm:ch
    confirm             3  K4   refuse            in_progress         pending_payment/pending/0-0        confirm:ch
    action              4  -    action_required   K3:act_s            pending_payment/requiresaction/0-0 -
    confirm             5  K5   confirm_requested -                   pending_payment/pending/0-0        confirm:ch
    unknown             5  -    payment_unanswered K5:pending         pending_payment/pending/0-0        look_up
    action              6  -    action_required   -                   pending_payment/requiresaction/0-0 -
    confirm             7  K6   confirm_requested -                   pending_payment/pending/0-0        confirm:ch
    captured            8  -    placed            K6:placed_paid      paid/captured/1300-0               sell+tell_placed
    new
    start               0  K1   started           -                   pending_payment/none/0-0           hold:A*1,B*2
    held                0  -    units_reserved    -                   pending_payment/pending/0-0        charge:1300
    action              0  -    action_required   K1:act_s            pending_payment/requiresaction/0-0 -
    confirm             1  K2   confirm_requested -                   pending_payment/pending/0-0        confirm:ch
    declined            2  -    payment_declined  K2:declined_no      cancelled/declined/0-0             free
";

const VOIDED: &str = "
    op                now  key  decision          told                state                              work
    start               0  K1   started           -                   pending_payment/none/0-0           hold:A*1,B*2
    held                0  -    units_reserved    -                   pending_payment/pending/0-0        charge:1300
    wake              100  -    void_requested    -                   pending_payment/pending/0-0        void:?
    wake              100  -    nothing           -                   pending_payment/pending/0-0        void:?
    unknown           101  -    nothing           -                   pending_payment/pending/0-0        void:?
    action            101  -    nothing           -                   pending_payment/pending/0-0        void:?
    void_unknown      101  -    nothing           -                   pending_payment/pending/0-0        void:?
    confirm           101  K2   refuse            illegal_from_pending_payment pending_payment/pending/0-0 void:?
    voided            102  -    payment_voided    K1:declined_the_payment_timed_out cancelled/voided/0-0 free
    voided            102  -    nothing           -                   cancelled/voided/0-0               free
    captured          102  -    nothing           -                   cancelled/voided/0-0               free
    new
    start               0  K1   started           -                   pending_payment/none/0-0           hold:A*1,B*2
    held                0  -    units_reserved    -                   pending_payment/pending/0-0        charge:1300
    action              0  -    action_required   K1:act_s            pending_payment/requiresaction/0-0 -
    wake              100  -    void_requested    -                   pending_payment/pending/0-0        void:ch
    void_too_late     101  -    placed            -                   paid/captured/1300-0               sell+tell_placed
    new
    start               0  K1   started           -                   pending_payment/none/0-0           hold:A*1,B*2
    held                0  -    units_reserved    -                   pending_payment/pending/0-0        charge:1300
    wake              100  -    void_requested    -                   pending_payment/pending/0-0        void:?
    declined          101  -    payment_declined  K1:declined_no      cancelled/declined/0-0             free
    new
    start               0  K1   started           -                   pending_payment/none/0-0           hold:A*1,B*2
    held                0  -    units_reserved    -                   pending_payment/pending/0-0        charge:1300
    wake              100  -    void_requested    -                   pending_payment/pending/0-0        void:?
    cancel:1          100  K2   void_requested    -                   pending_payment/pending/0-0        void:?
    cancel:2          100  K2   join              -                   pending_payment/pending/0-0        void:?
    cancel:3          100  K3   refuse            in_progress         pending_payment/pending/0-0        void:?
    voided            101  -    payment_voided    K1:declined_the_order_was_cancelled,K2:order_cancelled cancelled/voided/0-0 free
    cancel:3          102  K3   answered          K3:order_cancelled  cancelled/voided/0-0               free
    new
    start               0  K1   started           -                   pending_payment/none/0-0           hold:A*1,B*2
    held                0  -    units_reserved    -                   pending_payment/pending/0-0        charge:1300
    cancel:1            1  K2   void_requested    -                   pending_payment/pending/0-0        void:?
    captured            2  -    placed+cancel_requested K1:placed_paid paid/captured/1300-0              sell+tell_placed+refund:R1:1300
    cancel:2            2  K2   join              -                   paid/captured/1300-0               sell+tell_placed+refund:R1:1300
    cancel:2            2  K3   refuse            in_progress         paid/captured/1300-0               sell+tell_placed+refund:R1:1300
    refund:3            2  K3   refuse            illegal_from_paid   paid/captured/1300-0               sell+tell_placed+refund:R1:1300
    fulfil:3            2  K3   refuse            illegal_from_paid   paid/captured/1300-0               sell+tell_placed+refund:R1:1300
    refund_unknown:1    2  -    nothing           -                   paid/captured/1300-0               sell+tell_placed+refund:R1:1300
    refunded:1          3  -    refund_succeeded  K2:order_cancelled  cancelled/refunded/1300-1300       sell+tell_placed
    restocked:1         3  -    nothing           -                   cancelled/refunded/1300-1300       sell+tell_placed
    sold                3  -    units_sold        -                   cancelled/refunded/1300-1300       tell_placed+restock:R1:A*1,B*2
    restocked:1         3  -    units_restocked   -                   cancelled/refunded/1300-1300       tell_placed
    confirm             3  K4   refuse            illegal_from_cancelled cancelled/refunded/1300-1300    tell_placed
    cancel:4            3  K4   answered          K4:order_cancelled  cancelled/refunded/1300-1300       tell_placed
    new
    start               0  K1   started           -                   pending_payment/none/0-0           hold:A*1,B*2
    held                0  -    units_reserved    -                   pending_payment/pending/0-0        charge:1300
    cancel:1            1  K2   void_requested    -                   pending_payment/pending/0-0        void:?
    declined            2  -    payment_declined  K1:declined_no,K2:order_cancelled cancelled/declined/0-0 free
";

const REFUNDS: &str = "
    op                  now  key  decision          told                state                                 work
    start                 0  K1   started           -                   pending_payment/none/0-0              hold:A*1,B*2
    held                  0  -    units_reserved    -                   pending_payment/pending/0-0           charge:1300
    captured              0  -    placed            K1:placed_paid      paid/captured/1300-0                  sell+tell_placed
    told                  0  -    cart_told         -                   paid/captured/1300-0                  sell
    sold                  0  -    units_sold        -                   paid/captured/1300-0                  -
    refund:1:0            1  K2   refuse            /amount=out_of_range paid/captured/1300-0                 -
    refund:1:-1           1  K2   refuse            /amount/amount=out_of_range paid/captured/1300-0          -
    refund:1:5EUR         1  K2   refuse            /amount/currency=currency_mismatch paid/captured/1300-0   -
    refund:1:-:3*1        1  K2   refuse            /lines/0/line_id=unknown_line paid/captured/1300-0        -
    refund:1:-:1*1,2*0    1  K2   refuse            /lines/1/quantity=out_of_range paid/captured/1300-0       -
    refund:1:-:none       1  K2   refuse            /amount=out_of_range paid/captured/1300-0                 -
    refund:1:1301         1  K2   refuse            illegal_from_paid   paid/captured/1300-0                  -
    refund:1:-:1*3        1  K2   refuse            illegal_from_paid   paid/captured/1300-0                  -
    refund:1:-:1*9223372036854775807 1 K2 refuse    illegal_from_paid   paid/captured/1300-0                  -
    refund:1:-:1*1        1  K2   refund_requested  -                   paid/captured/1300-0                  refund:R1:500
    refund:1:-:1*1        1  K2   join              -                   paid/captured/1300-0                  refund:R1:500
    refund:1:-:1*1        1  K3   refuse            in_progress         paid/captured/1300-0                  refund:R1:500
    cancel:2              1  K3   refuse            illegal_from_paid   paid/captured/1300-0                  refund:R1:500
    refund:2:801          1  K3   refuse            illegal_from_paid   paid/captured/1300-0                  refund:R1:500
    refund:2:1:1*2        1  K3   refuse            illegal_from_paid   paid/captured/1300-0                  refund:R1:500
    refund:2:800          1  K3   refund_requested  -                   paid/captured/1300-0                  refund:R1:500+refund:R2:800
    refund_refused:2      2  -    refund_failed     K3:illegal_from_paid paid/captured/1300-0                 refund:R1:500
    refund:2:800          2  K3   refuse            illegal_from_paid   paid/captured/1300-0                  refund:R1:500
    refunded:2            2  -    nothing           -                   paid/captured/1300-0                  refund:R1:500
    refunded:1            2  -    refund_succeeded  K2:refund_succeeded partially_refunded/partiallyrefunded/1300-500 restock:R1:B*1
    refunded:1            2  -    nothing           -                   partially_refunded/partiallyrefunded/1300-500 restock:R1:B*1
    refund:1              2  K2   answer            refund_succeeded    partially_refunded/partiallyrefunded/1300-500 restock:R1:B*1
    restocked:1           2  -    units_restocked   -                   partially_refunded/partiallyrefunded/1300-500 -
    restocked:1           2  -    nothing           -                   partially_refunded/partiallyrefunded/1300-500 -
    refund:3:0:2*1:keep   3  K4   refund_requested+refund_succeeded K4:refund_succeeded partially_refunded/partiallyrefunded/1300-500 -
    refund:4:-:2*1        3  K5   refuse            illegal_from_partially_refunded partially_refunded/partiallyrefunded/1300-500 -
    refund:4              3  K5   refund_requested  -                   partially_refunded/partiallyrefunded/1300-500 refund:R4:800
    refunded:4            4  -    refund_succeeded  K5:refund_succeeded refunded/refunded/1300-1300           restock:R4:B*1
    restocked:4           4  -    units_restocked   -                   refunded/refunded/1300-1300           -
    refund:5:1            5  K6   refuse            illegal_from_refunded refunded/refunded/1300-1300         -
    fulfil:1              5  K6   refuse            illegal_from_refunded refunded/refunded/1300-1300         -
    cancel:6              5  K6   refuse            illegal_from_refunded refunded/refunded/1300-1300         -
    new
    start_free            0  K1   started           -                   pending_payment/none/0-0              hold:A*2
    held                  0  -    units_reserved+placed K1:placed_paid  paid/notrequired/0-0                  sell+tell_placed
    sold                  0  -    units_sold        -                   paid/notrequired/0-0                  tell_placed
    refund:1:-:1*1        0  K2   refund_requested+refund_succeeded K2:refund_succeeded partially_refunded/notrequired/0-0 tell_placed+restock:R1:A*1
    cancel:2              0  K3   cancel_requested+refund_succeeded K3:order_cancelled cancelled/notrequired/0-0 tell_placed+restock:R1:A*1+restock:R2:A*1
    new
    start_free            0  K1   started           -                   pending_payment/none/0-0              hold:A*2
    held                  0  -    units_reserved+placed K1:placed_paid  paid/notrequired/0-0                  sell+tell_placed
    refund:1              0  K2   refund_requested+refund_succeeded K2:refund_succeeded refunded/notrequired/0-0 sell+tell_placed
    new
    start                 0  K1   started           -                   pending_payment/none/0-0              hold:A*1,B*2
    held                  0  -    units_reserved    -                   pending_payment/pending/0-0           charge:1300
    captured              0  -    placed            K1:placed_paid      paid/captured/1300-0                  sell+tell_placed
    cancel:1              1  K2   cancel_requested  -                   paid/captured/1300-0                  sell+tell_placed+refund:R1:1300
    refund_refused:1      1  -    refund_failed     K2:illegal_from_paid paid/captured/1300-0                 sell+tell_placed
    cancel:1              1  K2   refuse            illegal_from_paid   paid/captured/1300-0                  sell+tell_placed
    cancel:2              1  K3   cancel_requested  -                   paid/captured/1300-0                  sell+tell_placed+refund:R2:1300
";

const DELIVERIES: &str = "
    op                       now  key  decision       told                  state                         work
    start                      0  K1   started        -                     pending_payment/none/0-0      hold:A*1,B*2
    held                       0  -    units_reserved -                     pending_payment/pending/0-0   charge:1300
    captured                   0  -    placed         K1:placed_paid        paid/captured/1300-0          sell+tell_placed
    sold                       0  -    units_sold     -                     paid/captured/1300-0          tell_placed
    told                       0  -    cart_told      -                     paid/captured/1300-0          -
    fulfil:1:none              1  K2   refuse         illegal_from_paid     paid/captured/1300-0          -
    fulfil:1:1*3               1  K2   refuse         illegal_from_paid     paid/captured/1300-0          -
    fulfil:1:9*1               1  K2   refuse         /lines/0/line_id=unknown_line paid/captured/1300-0  -
    fulfil:1:1*1,1*1           1  K2   fulfilled      K2:fulfilment         paid/captured/1300-0          -
    fulfil:1:1*1,1*1           1  K2   answer         fulfilment            paid/captured/1300-0          -
    fulfil:2:1*1               1  K3   refuse         illegal_from_paid     paid/captured/1300-0          -
    cancel:1                   1  K3   refuse         illegal_from_paid     paid/captured/1300-0          -
    fulfil:2                   5  K3   fulfilled      K3:fulfilment         fulfilled/captured/1300-0     -
    fulfil:3                   5  K4   refuse         illegal_from_fulfilled fulfilled/captured/1300-0    -
    cancel:1                   5  K4   refuse         illegal_from_fulfilled fulfilled/captured/1300-0    -
    wake              1209600004  -    nothing        -                     fulfilled/captured/1300-0     -
    wake              1209600005  -    completed      -                     completed/captured/1300-0     -
    wake              1209600005  -    nothing        -                     completed/captured/1300-0     -
    cancel:1          1209600006  K4   refuse         illegal_from_completed completed/captured/1300-0    -
    confirm           1209600006  K4   answered       K4:placed_completed   completed/captured/1300-0     -
    refund:1:-:2*1    1209600006  K5   refund_requested -                   completed/captured/1300-0     refund:R1:300
    refunded:1        1209600007  -    refund_succeeded K5:refund_succeeded partially_refunded/partiallyrefunded/1300-300 restock:R1:A*1
    new
    start                      0  K1   started        -                     pending_payment/none/0-0      hold:A*1,B*2
    held                       0  -    units_reserved -                     pending_payment/pending/0-0   charge:1300
    captured                   0  -    placed         K1:placed_paid        paid/captured/1300-0          sell+tell_placed
    refund:1:-:1*1:keep        1  K2   refund_requested -                   paid/captured/1300-0          sell+tell_placed+refund:R1:500
    fulfil:1:1*2               1  K3   refuse         illegal_from_paid     paid/captured/1300-0          sell+tell_placed+refund:R1:500
    refunded:1                 2  -    refund_succeeded K2:refund_succeeded partially_refunded/partiallyrefunded/1300-500 sell+tell_placed
    fulfil:1                   3  K3   fulfilled      K3:fulfilment         partially_refunded/partiallyrefunded/1300-500 sell+tell_placed
    fulfil:2                   3  K4   refuse         illegal_from_partially_refunded partially_refunded/partiallyrefunded/1300-500 sell+tell_placed
    wake              9999999999  -    nothing        -                     partially_refunded/partiallyrefunded/1300-500 sell+tell_placed
";

const TABLES: [&str; 6] = [PAID, UNPAID, OPEN, VOIDED, REFUNDS, DELIVERIES];

#[test]
fn a_paid_order_is_placed_once_and_then_sells_and_tells() {
    check(PAID);
}

#[test]
fn an_unpaid_order_frees_its_units_before_the_cart_opens_again() {
    check(UNPAID);
}

#[test]
fn an_open_payment_is_looked_up_or_confirmed_until_it_is_definite() {
    check(OPEN);
}

#[test]
fn a_payment_out_of_time_or_called_off_keeps_its_units_until_the_void_is_definite() {
    check(VOIDED);
}

#[test]
fn refunds_never_give_back_more_than_was_taken() {
    check(REFUNDS);
}

#[test]
fn fulfilled_orders_are_completed_when_the_return_window_has_passed() {
    check(DELIVERIES);
}

#[test]
fn every_event_obligation_and_refusal_of_an_order_is_reached() {
    let reached: BTreeSet<_> = TABLES.into_iter().chain(payments::TABLES).flat_map(check).collect();
    for name in [
        "started",
        "units_reserved",
        "units_refused",
        "payment_unanswered",
        "action_required",
        "confirm_requested",
        "void_requested",
        "payment_declined",
        "payment_voided",
        "placed",
        "units_sold",
        "units_freed",
        "cart_told",
        "cancel_requested",
        "refund_requested",
        "refund_succeeded",
        "refund_failed",
        "units_restocked",
        "fulfilled",
        "completed",
        "payment_deferred",
        "payment_resumed",
        "payment_authorized",
        "payment_captured",
        "capture_failed",
        "authorization_voided",
        "provider_notice",
        "stray_payment_found",
        "stray_payment_returned",
        "stray_payment_kept",
        "noticed",
        "work hold",
        "work await",
        "work charge",
        "work look_up",
        "work confirm",
        "work void",
        "work capture",
        "work return",
        "work sell",
        "work free",
        "work tell_placed",
        "work tell_failed",
        "work refund",
        "work restock",
        "answer",
        "refuse",
        "nothing",
        "join",
        "not_found",
        "insufficient_stock",
        "in_progress",
        "declined_no",
        "illegal_from_pending_payment",
        "illegal_from_paid",
        "illegal_from_cancelled",
        "illegal_from_fulfilled",
        "illegal_from_completed",
        "illegal_from_refunded",
        "illegal_from_partially_refunded",
        "/amount=out_of_range",
    ] {
        assert!(reached.contains(name), "no row reaches {name}");
    }
}

#[test]
fn an_order_shows_its_reservation_timeline_and_number() {
    let mut bench = Bench::new();
    let mut states = Vec::new();
    for op in ["start", "held", "captured", "sold", "told"] {
        bench.turn(&Envelope { now: Timestamp(3), request: None, command: command(op) });
        states.push(bench.order.reservation_record().map(|record| record.state));
    }
    let (held, sold) = (Some(ReservationState::Held), Some(ReservationState::Committed));
    assert_eq!(states, [None, held, sold, sold, sold]);
    let record = bench.order.reservation_record().unwrap();
    assert_eq!(
        (record.id, record.order, record.expires_at),
        (ORDER.reservation(), Some(ORDER), Timestamp(103))
    );
    let kinds: Vec<_> = bench.order.timeline().iter().map(|entry| entry.kind.as_str()).collect();
    assert_eq!(kinds, ["started", "units_reserved", "placed", "units_sold", "cart_told"]);
    let view = bench.order.view();
    assert_eq!((view.number.as_str(), view.payment_id), ("1", Some(PaymentId(ORDER.0))));
    assert_eq!(bench.order.summary().state, OrderState::Paid);
    assert!(bench.order.is_finished());
}
