//! Every decision about money that is authorized first, put off, told of unasked, or not wanted: one row each.

use super::tables::{check, command};
use super::*;

const AUTHORIZED: &str = "
    op                    now key decision         told          state                           work
    start                  0  K1  started          -             pending_payment/none/0-0        hold:A*1,B*2
    held                   0  -   units_reserved   -             pending_payment/pending/0-0     charge:1300
    capture_done           0  -   nothing          -             pending_payment/pending/0-0     charge:1300
    authorized             1  -   payment_authorized+placed K1:placed_paid paid/authorized/0-0   sell+tell_placed
    authorized             1  -   nothing          -             paid/authorized/0-0             sell+tell_placed
    captured               1  -   nothing          -             paid/authorized/0-0             sell+tell_placed
    declined               1  -   nothing          -             paid/authorized/0-0             sell+tell_placed
    unknown                1  -   nothing          -             paid/authorized/0-0             sell+tell_placed
    voided                 1  -   nothing          -             paid/authorized/0-0             sell+tell_placed
    void_too_late          1  -   nothing          -             paid/authorized/0-0             sell+tell_placed
    ready                  1  -   nothing          -             paid/authorized/0-0             sell+tell_placed
    confirm                1  K2  answered         K2:placed_paid paid/authorized/0-0             sell+tell_placed
    refund:1               1  K2  refuse           in_progress   paid/authorized/0-0             sell+tell_placed
    fulfil:1               1  K2  refuse           in_progress   paid/authorized/0-0             sell+tell_placed
    wake                  999 -   nothing          -             paid/authorized/0-0             sell+tell_placed
    told                  999 -   cart_told        -             paid/authorized/0-0             sell
    sold                  999 -   units_sold       -             paid/authorized/0-0             capture:ch
    refund:1:1            999 K2  refuse           in_progress   paid/authorized/0-0             capture:ch
    fulfil:1:1*1          999 K2  refuse           in_progress   paid/authorized/0-0             capture:ch
    capture_unknown       999 -   nothing          -             paid/authorized/0-0             capture:ch
    capture_done          999 -   payment_captured -             paid/captured/1300-0            -
    capture_done          999 -   nothing          -             paid/captured/1300-0            -
    capture_lost          999 -   nothing          -             paid/captured/1300-0            -
    fulfil:1:2*1          999 K2  fulfilled        K2:fulfilment paid/captured/1300-0            -
    refund:1:500          999 K3  refund_requested -             paid/captured/1300-0            refund:R1:500
    new
    start                  0  K1  started          -             pending_payment/none/0-0        hold:A*1,B*2
    held                   0  -   units_reserved   -             pending_payment/pending/0-0     charge:1300
    unknown                0  -   payment_unanswered K1:pending  pending_payment/pending/0-0     look_up
    authorized             1  -   payment_authorized+placed -    paid/authorized/0-0             sell+tell_placed
    new
    start                  0  K1  started          -             pending_payment/none/0-0        hold:A*1,B*2
    held                   0  -   units_reserved   -             pending_payment/pending/0-0     charge:1300
    redirect               0  -   action_required  K1:go_page    pending_payment/requiresaction/0-0 -
    confirm                1  K2  confirm_requested -            pending_payment/pending/0-0     confirm:ch
    authorized             2  -   payment_authorized+placed K2:placed_paid paid/authorized/0-0   sell+tell_placed
";

const LOST: &str = "
    op                    now key decision         told          state                           work
    start                  0  K1  started          -             pending_payment/none/0-0        hold:A*1,B*2
    held                   0  -   units_reserved   -             pending_payment/pending/0-0     charge:1300
    authorized             1  -   payment_authorized+placed K1:placed_paid paid/authorized/0-0   sell+tell_placed
    told                   1  -   cart_told        -             paid/authorized/0-0             sell
    sold                   1  -   units_sold       -             paid/authorized/0-0             capture:ch
    capture_lost           2  -   capture_failed+cancel_requested+refund_succeeded - cancelled/declined/0-0 restock:R1:A*1,B*2
    capture_lost           2  -   nothing          -             cancelled/declined/0-0          restock:R1:A*1,B*2
    capture_done           2  -   nothing          -             cancelled/declined/0-0          restock:R1:A*1,B*2
    voided                 2  -   nothing          -             cancelled/declined/0-0          restock:R1:A*1,B*2
    confirm                2  K2  refuse           illegal_from_cancelled cancelled/declined/0-0 restock:R1:A*1,B*2
    refund:2               2  K2  refuse           illegal_from_cancelled cancelled/declined/0-0 restock:R1:A*1,B*2
    fulfil:2               2  K2  refuse           illegal_from_cancelled cancelled/declined/0-0 restock:R1:A*1,B*2
    cancel:2               2  K2  answered         K2:order_cancelled cancelled/declined/0-0        restock:R1:A*1,B*2
    restocked:1            3  -   units_restocked  -             cancelled/declined/0-0          -
";

const CALLED_OFF: &str = "
    op                    now key decision         told          state                           work
    start                  0  K1  started          -             pending_payment/none/0-0        hold:A*1,B*2
    held                   0  -   units_reserved   -             pending_payment/pending/0-0     charge:1300
    authorized             1  -   payment_authorized+placed K1:placed_paid paid/authorized/0-0   sell+tell_placed
    cancel:7               2  K2  cancel_requested -             paid/authorized/0-0             sell+tell_placed+void:ch
    cancel:8               2  K2  join             -             paid/authorized/0-0             sell+tell_placed+void:ch
    cancel:8               2  K3  refuse           in_progress   paid/authorized/0-0             sell+tell_placed+void:ch
    refund:8               2  K3  refuse           illegal_from_paid paid/authorized/0-0         sell+tell_placed+void:ch
    fulfil:8               2  K3  refuse           illegal_from_paid paid/authorized/0-0         sell+tell_placed+void:ch
    void_unknown           2  -   nothing          -             paid/authorized/0-0             sell+tell_placed+void:ch
    refunded:7             2  -   nothing          -             paid/authorized/0-0             sell+tell_placed+void:ch
    refund_refused:7       2  -   nothing          -             paid/authorized/0-0             sell+tell_placed+void:ch
    sold                   3  -   units_sold       -             paid/authorized/0-0             tell_placed+void:ch
    capture_lost           3  -   nothing          -             paid/authorized/0-0             tell_placed+void:ch
    voided                 4  -   authorization_voided K2:order_cancelled cancelled/voided/0-0   tell_placed+restock:R7:A*1,B*2
    voided                 4  -   nothing          -             cancelled/voided/0-0            tell_placed+restock:R7:A*1,B*2
    void_too_late          4  -   nothing          -             cancelled/voided/0-0            tell_placed+restock:R7:A*1,B*2
    capture_done           4  -   nothing          -             cancelled/voided/0-0            tell_placed+restock:R7:A*1,B*2
    restocked:7            5  -   units_restocked  -             cancelled/voided/0-0            tell_placed
    cancel:8               5  K3  answered         K3:order_cancelled cancelled/voided/0-0          tell_placed
    new
    start                  0  K1  started          -             pending_payment/none/0-0        hold:A*1,B*2
    held                   0  -   units_reserved   -             pending_payment/pending/0-0     charge:1300
    authorized             1  -   payment_authorized+placed K1:placed_paid paid/authorized/0-0   sell+tell_placed
    cancel:7               2  K2  cancel_requested -             paid/authorized/0-0             sell+tell_placed+void:ch
    void_too_late          3  -   payment_captured -             paid/captured/1300-0            sell+tell_placed+refund:R7:1300
    voided                 3  -   nothing          -             paid/captured/1300-0            sell+tell_placed+refund:R7:1300
    refunded:7             4  -   refund_succeeded K2:order_cancelled cancelled/refunded/1300-1300 sell+tell_placed
    new
    start                  0  K1  started          -             pending_payment/none/0-0        hold:A*1,B*2
    held                   0  -   units_reserved   -             pending_payment/pending/0-0     charge:1300
    authorized             1  -   payment_authorized+placed K1:placed_paid paid/authorized/0-0   sell+tell_placed
    told                   1  -   cart_told        -             paid/authorized/0-0             sell
    sold                   1  -   units_sold       -             paid/authorized/0-0             capture:ch
    cancel:7               2  K2  cancel_requested -             paid/authorized/0-0             void:ch
    capture_unknown        2  -   nothing          -             paid/authorized/0-0             void:ch
    capture_done           3  -   payment_captured -             paid/captured/1300-0            refund:R7:1300
    void_too_late          3  -   nothing          -             paid/captured/1300-0            refund:R7:1300
    refund_refused:7       4  -   refund_failed    K2:illegal_from_paid paid/captured/1300-0     -
";

const DEFERRED: &str = "
    op                    now key decision         told          state                           work
    start                  0  K1  started          -             pending_payment/none/0-0        hold:A*1,B*2
    held:50                1  -   units_reserved+payment_deferred K1:pending pending_payment/pending/0-0 await:2
    held                   1  -   nothing          -             pending_payment/pending/0-0     await:2
    held:50                1  -   nothing          -             pending_payment/pending/0-0     await:2
    authorized             1  -   nothing          -             pending_payment/pending/0-0     await:2
    captured               1  -   nothing          -             pending_payment/pending/0-0     await:2
    declined               1  -   nothing          -             pending_payment/pending/0-0     await:2
    action                 1  -   nothing          -             pending_payment/pending/0-0     await:2
    unknown                1  -   nothing          -             pending_payment/pending/0-0     await:2
    voided                 1  -   nothing          -             pending_payment/pending/0-0     await:2
    confirm                2  K2  answered         K2:pending    pending_payment/pending/0-0     await:2
    refund:1               2  K2  refuse           illegal_from_pending_payment pending_payment/pending/0-0 await:2
    fulfil:1               2  K2  refuse           illegal_from_pending_payment pending_payment/pending/0-0 await:2
    wake                  50  -   nothing          -             pending_payment/pending/0-0     await:2
    ready                 50  -   payment_resumed  -             pending_payment/pending/0-0     charge:1300
    ready                 50  -   nothing          -             pending_payment/pending/0-0     charge:1300
    wake                  149 -   nothing          -             pending_payment/pending/0-0     charge:1300
    authorized            149 -   payment_authorized+placed -    paid/authorized/0-0             sell+tell_placed
    new
    start                  0  K1  started          -             pending_payment/none/0-0        hold:A*1,B*2
    held:50                1  -   units_reserved+payment_deferred K1:pending pending_payment/pending/0-0 await:2
    ready                 50  -   payment_resumed  -             pending_payment/pending/0-0     charge:1300
    wake                  150 -   void_requested   -             pending_payment/pending/0-0     void:?
    new
    start                  0  K1  started          -             pending_payment/none/0-0        hold:A*1,B*2
    held:50                1  -   units_reserved+payment_deferred K1:pending pending_payment/pending/0-0 await:2
    wake                  51  -   payment_voided   -             cancelled/voided/0-0            free
    wake                  51  -   nothing          -             cancelled/voided/0-0            free
    ready                 51  -   nothing          -             cancelled/voided/0-0            free
    confirm               51  K2  refuse           illegal_from_cancelled cancelled/voided/0-0   free
    freed                 52  -   units_freed      -             cancelled/voided/0-0            tell_failed
    told                  52  -   cart_told        -             cancelled/voided/0-0            -
    new
    start                  0  K1  started          -             pending_payment/none/0-0        hold:A*1,B*2
    held:50                1  -   units_reserved+payment_deferred K1:pending pending_payment/pending/0-0 await:2
    ready                 51  -   payment_voided   -             cancelled/voided/0-0            free
    new
    start                  0  K1  started          -             pending_payment/none/0-0        hold:A*1,B*2
    held:50                1  -   units_reserved+payment_deferred K1:pending pending_payment/pending/0-0 await:2
    cancel:7               2  K2  void_requested+payment_voided K2:order_cancelled cancelled/voided/0-0 free
    cancel:8               2  K3  answered         K3:order_cancelled cancelled/voided/0-0          free
    ready                  2  -   nothing          -             cancelled/voided/0-0            free
    wake                  51  -   nothing          -             cancelled/voided/0-0            free
    new
    start_free             0  K1  started          -             pending_payment/none/0-0        hold:A*2
    held:50                1  -   units_reserved+placed K1:placed_paid paid/notrequired/0-0      sell+tell_placed
    ready                  1  -   nothing          -             paid/notrequired/0-0            sell+tell_placed
";

const NOTICED: &str = "
    op                    now key decision         told          state                           work
    notice:e1:captured     0  K9  refuse           not_found     pending_payment/none/0-0        -
    start                  0  K1  started          -             pending_payment/none/0-0        hold:A*1,B*2
    notice:e1:open         0  K9  provider_notice  K9:noticed    pending_payment/none/0-0        hold:A*1,B*2
    notice:e1:captured     0  K9  answer           noticed       pending_payment/none/0-0        hold:A*1,B*2
    held                   0  -   units_reserved   -             pending_payment/pending/0-0     charge:1300
    notice:e2:open         0  -   provider_notice  -             pending_payment/pending/0-0     charge:1300
    notice:e3:cancelled    0  -   provider_notice  -             pending_payment/pending/0-0     charge:1300
    notice:e4:authorized   1  K9  provider_notice+payment_authorized+placed K9:noticed,K1:placed_paid paid/authorized/0-0 sell+tell_placed
    authorized             1  -   nothing          -             paid/authorized/0-0             sell+tell_placed
    notice:e4:authorized   1  K9  answer           noticed       paid/authorized/0-0             sell+tell_placed
    notice:e5:cancelled    1  -   provider_notice  -             paid/authorized/0-0             sell+tell_placed
    notice:e6:captured     2  -   provider_notice+payment_captured - paid/captured/1300-0        sell+tell_placed
    notice:e7:captured     2  -   provider_notice  -             paid/captured/1300-0            sell+tell_placed
    notice:e8:authorized   3  -   provider_notice  -             paid/captured/1300-0            sell+tell_placed
    notice:e9:open         3  -   provider_notice  -             paid/captured/1300-0            sell+tell_placed
    capture_done           3  -   nothing          -             paid/captured/1300-0            sell+tell_placed
    new
    start                  0  K1  started          -             pending_payment/none/0-0        hold:A*1,B*2
    held                   0  -   units_reserved   -             pending_payment/pending/0-0     charge:1300
    unknown                0  -   payment_unanswered K1:pending  pending_payment/pending/0-0     look_up
    notice:e1:open         0  -   provider_notice  -             pending_payment/pending/0-0     look_up
    notice:e2:captured     1  -   provider_notice+placed -       paid/captured/1300-0            sell+tell_placed
    notice:e3:authorized   1  -   provider_notice  -             paid/captured/1300-0            sell+tell_placed
    new
    start                  0  K1  started          -             pending_payment/none/0-0        hold:A*1,B*2
    held                   0  -   units_reserved   -             pending_payment/pending/0-0     charge:1300
    action                 0  -   action_required  K1:act_s      pending_payment/requiresaction/0-0 -
    notice:e1:open:1300:other  0 - provider_notice -             pending_payment/requiresaction/0-0 -
    notice:e2:cancelled:1300:other  0 - provider_notice -        pending_payment/requiresaction/0-0 -
    notice:e3:open         0  -   provider_notice  -             pending_payment/pending/0-0     confirm:ch
    notice:e4:cancelled    0  -   provider_notice  -             pending_payment/pending/0-0     confirm:ch
    confirm                0  K2  refuse           in_progress   pending_payment/pending/0-0     confirm:ch
    action                 1  -   action_required  -             pending_payment/requiresaction/0-0 -
    notice:e3:open         1  -   answer           noticed       pending_payment/requiresaction/0-0 -
    notice:e5:cancelled    1  -   provider_notice  -             pending_payment/pending/0-0     confirm:ch
    declined               2  -   payment_declined -             cancelled/declined/0-0          free
    new
    start                  0  K1  started          -             pending_payment/none/0-0        hold:A*1,B*2
    held                   0  -   units_reserved   -             pending_payment/pending/0-0     charge:1300
    action                 0  -   action_required  K1:act_s      pending_payment/requiresaction/0-0 -
    confirm                1  K2  confirm_requested -            pending_payment/pending/0-0     confirm:ch
    notice:e1:authorized   1  -   provider_notice+payment_authorized+placed K2:placed_paid paid/authorized/0-0 sell+tell_placed
    new
    start                  0  K1  started          -             pending_payment/none/0-0        hold:A*1,B*2
    held                   0  -   units_reserved   -             pending_payment/pending/0-0     charge:1300
    action                 0  -   action_required  K1:act_s      pending_payment/requiresaction/0-0 -
    notice:e1:captured     1  -   provider_notice+placed -       paid/captured/1300-0            sell+tell_placed
    new
    start                  0  K1  started          -             pending_payment/none/0-0        hold:A*1,B*2
    held:50                0  -   units_reserved+payment_deferred K1:pending pending_payment/pending/0-0 await:2
    notice:e1:authorized   1  -   refuse           in_progress   pending_payment/pending/0-0     await:2
    notice:e2:captured     1  -   refuse           in_progress   pending_payment/pending/0-0     await:2
    notice:e3:captured:1299  1 -  provider_notice  -             pending_payment/pending/0-0     await:2
    wake                  50  -   payment_voided   -             cancelled/voided/0-0            free
    notice:e2:captured    51  -   provider_notice+stray_payment_found - cancelled/voided/0-0     free+return:ch
    new
    start                  0  K1  started          -             pending_payment/none/0-0        hold:A*1,B*2
    held                   0  -   units_reserved   -             pending_payment/pending/0-0     charge:1300
    wake                 100  -   void_requested   -             pending_payment/pending/0-0     void:?
    notice:e1:authorized:1300:other 101 - refuse   in_progress   pending_payment/pending/0-0     void:?
    voided               102  -   payment_voided   K1:declined_the_payment_timed_out cancelled/voided/0-0        free
    notice:e1:authorized:1300:other 103 - provider_notice+stray_payment_found - cancelled/voided/0-0 free+return:other
";

const NOT_BELIEVED: &str = "
    op                    now key decision         told          state                           work
    start                  0  K1  started          -             pending_payment/none/0-0        hold:A*1,B*2
    held                   0  -   units_reserved   -             pending_payment/pending/0-0     charge:1300
    notice:e1:captured:1299  0 -  provider_notice  -             pending_payment/pending/0-0     charge:1300
    notice:e2:authorized:1301  0 - provider_notice -             pending_payment/pending/0-0     charge:1300
    notice:e3:captured:1300EUR  0 - provider_notice -            pending_payment/pending/0-0     charge:1300
    authorized             1  -   payment_authorized+placed K1:placed_paid paid/authorized/0-0   sell+tell_placed
    notice:e4:captured:1299  1 -  provider_notice  -             paid/authorized/0-0             sell+tell_placed
    notice:e5:captured:1300EUR  1 - provider_notice -            paid/authorized/0-0             sell+tell_placed
    notice:e6:captured:1299:other  1 - provider_notice -         paid/authorized/0-0             sell+tell_placed
    new
    start                  0  K1  started          -             pending_payment/none/0-0        hold:A*1,B*2
    held                   0  -   units_reserved   -             pending_payment/pending/0-0     charge:1300
    declined               0  -   payment_declined K1:declined_no cancelled/declined/0-0         free
    notice:e1:captured:1299  0 -  provider_notice  -             cancelled/declined/0-0          free
    notice:e2:captured:1300EUR  0 - provider_notice -            cancelled/declined/0-0          free
    new
    start                  0  K1  started          -             pending_payment/none/0-0        hold:A*1,B*2
    held                   0  -   units_reserved   -             pending_payment/pending/0-0     charge:1300
    cancel:7               1  K2  void_requested   -             pending_payment/pending/0-0     void:?
    authorized             1  -   nothing          -             pending_payment/pending/0-0     void:?
    notice:e1:authorized   1  -   refuse           in_progress   pending_payment/pending/0-0     void:?
    notice:e2:open         1  -   provider_notice  -             pending_payment/pending/0-0     void:?
    notice:e3:cancelled    1  -   provider_notice  -             pending_payment/pending/0-0     void:?
    notice:e4:captured:1   1  -   provider_notice  -             pending_payment/pending/0-0     void:?
    notice:e5:captured     2  -   provider_notice+placed+cancel_requested K1:placed_paid paid/captured/1300-0 sell+tell_placed+refund:R7:1300
    void_too_late          2  -   nothing          -             paid/captured/1300-0            sell+tell_placed+refund:R7:1300
    refunded:7             3  -   refund_succeeded K2:order_cancelled cancelled/refunded/1300-1300 sell+tell_placed
    new
    start                  0  K1  started          -             pending_payment/none/0-0        hold:A*1,B*2
    held                   0  -   units_reserved   -             pending_payment/pending/0-0     charge:1300
    wake                  100 -   void_requested   -             pending_payment/pending/0-0     void:?
    notice:e1:captured    101 -   provider_notice+placed K1:placed_paid paid/captured/1300-0     sell+tell_placed
";

const STRAYS: &str = "
    op                    now key decision         told          state                           work
    start                  0  K1  started          -             pending_payment/none/0-0        hold:A*1,B*2
    held                   0  -   units_reserved   -             pending_payment/pending/0-0     charge:1300
    action                 0  -   action_required  K1:act_s      pending_payment/requiresaction/0-0 -
    notice:e1:authorized:1300:other  0 K9 provider_notice+stray_payment_found K9:noticed pending_payment/requiresaction/0-0 return:other
    notice:e2:captured:1300:other  0 - provider_notice -         pending_payment/requiresaction/0-0 return:other
    stray_back:nobody      0  -   nothing          -             pending_payment/requiresaction/0-0 return:other
    stray_back:other       1  -   stray_payment_returned -       pending_payment/requiresaction/0-0 -
    stray_back:other       1  -   nothing          -             pending_payment/requiresaction/0-0 -
    stray_refused:other    1  -   nothing          -             pending_payment/requiresaction/0-0 -
    notice:e3:captured:1300:other  1 - provider_notice -         pending_payment/requiresaction/0-0 -
    confirm                2  K2  confirm_requested -            pending_payment/pending/0-0     confirm:ch
    notice:e4:captured:1300:third  2 - provider_notice+stray_payment_found - pending_payment/pending/0-0 confirm:ch+return:third
    authorized             3  -   payment_authorized+placed K2:placed_paid paid/authorized/0-0   sell+tell_placed+return:third
    notice:e5:captured:1300:fourth  3 - provider_notice+stray_payment_found - paid/authorized/0-0 sell+tell_placed+return:third+return:fourth
    stray_refused:third    4  -   stray_payment_kept -           paid/authorized/0-0             sell+tell_placed+return:fourth
    stray_back:third       4  -   nothing          -             paid/authorized/0-0             sell+tell_placed+return:fourth
    new
    start                  0  K1  started          -             pending_payment/none/0-0        hold:A*1,B*2
    held                   0  -   units_reserved   -             pending_payment/pending/0-0     charge:1300
    action                 0  -   action_required  K1:act_s      pending_payment/requiresaction/0-0 -
    cancel:7               1  K2  void_requested   -             pending_payment/pending/0-0     void:ch
    notice:e1:captured:1300:other  1 - provider_notice+stray_payment_found - pending_payment/pending/0-0 void:ch+return:other
    voided                 2  -   payment_voided   K2:order_cancelled cancelled/voided/0-0       free+return:other
    notice:e2:authorized   2  -   provider_notice+stray_payment_found - cancelled/voided/0-0     free+return:other+return:ch
    freed                  3  -   units_freed      -             cancelled/voided/0-0            tell_failed+return:other+return:ch
    told                   3  -   cart_told        -             cancelled/voided/0-0            return:other+return:ch
    stray_back:ch          4  -   stray_payment_returned -       cancelled/voided/0-0            return:other
    stray_back:other       4  -   stray_payment_returned -       cancelled/voided/0-0            -
    notice:e3:cancelled    5  -   provider_notice  -             cancelled/voided/0-0            -
    new
    start                  0  K1  started          -             pending_payment/none/0-0        hold:A*1,B*2
    short                  0  -   units_refused    K1:insufficient_stock cancelled/none/0-0      free
    notice:e1:captured     1  -   provider_notice+stray_payment_found - cancelled/none/0-0       free+return:ch
    new
    start                  0  K1  started          -             pending_payment/none/0-0        hold:A*1,B*2
    held                   0  -   units_reserved   -             pending_payment/pending/0-0     charge:1300
    declined               0  -   payment_declined K1:declined_no cancelled/declined/0-0         free
    notice:e1:open         1  -   provider_notice  -             cancelled/declined/0-0          free
    notice:e2:captured     1  -   provider_notice+stray_payment_found - cancelled/declined/0-0   free+return:ch
    stray_refused:ch       2  -   stray_payment_kept -           cancelled/declined/0-0          free
    new
    start                  0  K1  started          -             pending_payment/none/0-0        hold:A*1,B*2
    held:50                0  -   units_reserved+payment_deferred K1:pending pending_payment/pending/0-0 await:2
    wake                  50  -   payment_voided   -             cancelled/voided/0-0            free
    notice:e1:captured    51  -   provider_notice+stray_payment_found - cancelled/voided/0-0     free+return:ch
    new
    start                  0  K1  started          -             pending_payment/none/0-0        hold:A*1,B*2
    held                   0  -   units_reserved   -             pending_payment/pending/0-0     charge:1300
    authorized             1  -   payment_authorized+placed K1:placed_paid paid/authorized/0-0   sell+tell_placed
    cancel:7               2  K2  cancel_requested -             paid/authorized/0-0             sell+tell_placed+void:ch
    voided                 3  -   authorization_voided K2:order_cancelled cancelled/voided/0-0   sell+tell_placed
    notice:e1:authorized   3  -   provider_notice  -             cancelled/voided/0-0            sell+tell_placed
    notice:e2:captured     3  -   provider_notice+stray_payment_found - cancelled/voided/0-0     sell+tell_placed+return:ch
    new
    start                  0  K1  started          -             pending_payment/none/0-0        hold:A*1,B*2
    held                   0  -   units_reserved   -             pending_payment/pending/0-0     charge:1300
    authorized             1  -   payment_authorized+placed K1:placed_paid paid/authorized/0-0   sell+tell_placed
    sold                   1  -   units_sold       -             paid/authorized/0-0             tell_placed+capture:ch
    capture_lost           2  -   capture_failed+cancel_requested+refund_succeeded - cancelled/declined/0-0 tell_placed+restock:R1:A*1,B*2
    notice:e1:captured     3  -   provider_notice+stray_payment_found - cancelled/declined/0-0   tell_placed+restock:R1:A*1,B*2+return:ch
";

pub(super) const TABLES: [&str; 7] = [AUTHORIZED, LOST, CALLED_OFF, DEFERRED, NOTICED, NOT_BELIEVED, STRAYS];

#[test]
fn authorized_money_is_captured_once_the_units_are_sold_and_nothing_moves_before() {
    check(AUTHORIZED);
}

#[test]
fn an_order_whose_authorization_cannot_be_captured_is_called_off_and_restocked() {
    check(LOST);
}

#[test]
fn an_order_called_off_while_authorized_lets_the_money_go_or_gives_it_back() {
    check(CALLED_OFF);
}

#[test]
fn a_deferred_payment_is_asked_for_in_time_or_never() {
    check(DEFERRED);
}

#[test]
fn a_notice_tells_once_what_the_answer_would_have_told() {
    check(NOTICED);
}

#[test]
fn a_notice_of_other_money_or_against_a_cancellation_is_not_believed() {
    check(NOT_BELIEVED);
}

#[test]
fn money_that_no_order_wants_goes_back_once() {
    check(STRAYS);
}

/// An order that is off, to which `count` events of the provider come, each of a payment of its own if `own`.
fn told_of(count: usize, own: bool) -> Bench {
    let mut bench = Bench::new();
    for op in ["start", "held", "declined", "freed", "told"] {
        bench.turn(&Envelope { now: Timestamp(0), request: None, command: command(op) });
    }
    for number in 0..count {
        let op = if own {
            format!("notice:e{number}:captured::p{number}")
        } else {
            format!("notice:e{number}:open")
        };
        let turn = bench.turn(&Envelope { now: Timestamp(0), request: None, command: command(&op) });
        assert!(matches!(turn.decision, Decision::Change(_)), "{op} is news");
    }
    bench
}

#[test]
fn an_order_remembers_a_bounded_number_of_notices_the_newest() {
    let mut bench = told_of(NOTICES_MAX + 1, false);
    assert_eq!(bench.order.notices.len(), NOTICES_MAX, "law 11: what is remembered is bounded");
    let mut decide =
        |op: &str| bench.turn(&Envelope { now: Timestamp(0), request: None, command: command(op) }).decision;
    assert_eq!(decide(&format!("notice:e{NOTICES_MAX}:open")), Decision::Answer(Answer::Noticed));
    assert_eq!(decide("notice:e1:open"), Decision::Answer(Answer::Noticed), "the oldest that is remembered");
    let forgotten = OrderEvent::Noticed { event: "e0".into(), asks: false };
    assert_eq!(decide("notice:e0:open"), Decision::change(forgotten), "it changes nothing but the memory");
    bench.check_replay();
}

#[test]
fn an_order_sends_back_a_bounded_number_of_payments() {
    let mut bench = told_of(STRAYS_MAX + 1, true);
    let charge = |obligation: &OrderObligation| {
        let OrderObligation::ReturnStray { nth, charge, reference } = obligation else {
            panic!("nothing else is wanted: {obligation:?}");
        };
        (*nth, charge.key.clone(), charge.amount.amount, reference.clone())
    };
    let key = format!("{ORDER}:charge");
    let expected: Vec<_> =
        (0..STRAYS_MAX).map(|number| (number, key.clone(), 1300, format!("p{number}"))).collect();
    let sent_back = |order: &Order| order.obligations().iter().map(charge).collect::<Vec<_>>();
    assert_eq!(sent_back(&bench.order), expected, "law 11: what is sent back is bounded");
    bench.turn(&Envelope { now: Timestamp(0), request: None, command: command("stray_back:p0") });
    assert_eq!(sent_back(&bench.order), expected[1..], "each keeps its number");
    bench.check_replay();
}
