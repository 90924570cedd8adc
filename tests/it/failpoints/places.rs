//! Where the program can fail, who passes there, and how it fails.

use std::fmt;

/// A place in the code where a fault can be set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) name: &'static str,
    /// What `--stages` of the faulty process says.
    pub(crate) role: &'static str,
    /// How often it is passed unharmed before each fault: the work is under way by then.
    passes: u32,
}

/// How it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// As if the server had not answered.
    Error,
    Panic,
    /// The process dies.
    Abort,
}

impl Action {
    pub(crate) const ALL: [Self; 3] = [Self::Error, Self::Panic, Self::Abort];

    fn in_fail(self) -> &'static str {
        match self {
            Self::Error => "return(error)",
            Self::Panic => "panic",
            Self::Abort => "return(abort)",
        }
    }
}

impl Place {
    /// What stands in `FAILPOINTS`.
    pub(crate) fn faults(&self, actions: &[Action]) -> String {
        let step = |action: &Action| match self.passes {
            0 => format!("1*{}", action.in_fail()),
            passes => format!("{passes}*off->1*{}", action.in_fail()),
        };
        let steps: Vec<String> = actions.iter().map(step).collect();
        format!("{}={}", self.name, steps.join("->"))
    }

    /// What the process says when it happens.
    pub(crate) fn evidence(&self, action: Action) -> String {
        match action {
            Action::Error => format!("failpoint {}: error", self.name),
            Action::Panic => format!("failpoint {} panic", self.name),
            Action::Abort => format!("failpoint {}: abort", self.name),
        }
    }
}

/// Those who deal with money at a provider, in one process.
pub(crate) const MONEY: &str = "payment,refund,callback,collector";

/// Every place, by who passes it, with the number of unharmed passes.
const TABLE: &[(&str, u32, &[&str])] = &[
    (
        "reservation",
        1,
        &[
            "reservation.read",
            "before_begin",
            "begin",
            "lock_products_in_id_order",
            "orders_by_code",
            "known_customers",
            "insert_orders",
            "insert_order_lines",
            "add_reserved",
            "append_events",
            "before_commit",
            "committed",
            "reservation.before_script",
            "reservation.script_run",
        ],
    ),
    // Ids are drawn once for a thousand orders, and a stream is trimmed twice a second.
    ("reservation", 0, &["draw_order_ids", "reservation.before_trim", "reservation.trimmed"]),
    (
        "payment",
        1,
        &[
            "payment.read",
            "payable_orders",
            "payment.charged",
            "insert_payments",
            "payment.before_script",
            "payment.script_run",
        ],
    ),
    ("payment", 0, &["payment.before_trim", "payment.trimmed"]),
    (
        "settlement",
        1,
        &[
            "settlement.read",
            "before_begin",
            "begin",
            "lock_orders_in_id_order",
            "mark_settled",
            "release_held_stock",
            "append_events",
            "before_commit",
            "committed",
            "settlement.before_script",
            "settlement.script_run",
        ],
    ),
    ("settlement", 0, &["settlement.before_trim", "settlement.trimmed"]),
    // A step carries whatever there is: nobody can say how many there will be.
    ("relay", 0, &["board_events_after", "pieces_sold_in", "relay.before_script", "relay.script_run"]),
    (
        "reconciler",
        0,
        &[
            "oldest_open_order",
            "orders_in_turn",
            "reconciler.before_emit",
            "reconciler.emitted",
            "parked_before",
            "unpark_orders",
            "note_reconciliation",
        ],
    ),
    ("import", 1, &["import.before_chunk", "import.chunk_added"]),
    ("park", 0, &["park_orders"]),
    (
        MONEY,
        0,
        &[
            "payment.read",
            "begin_payments",
            "payment.charged",
            "lock_payments_of_orders",
            "change_payments",
            "payment.before_script",
            "refund.read",
            "lock_refundable_orders",
            "refunds_by_key",
            "write_refunds",
            "refund.granted",
            "pending_refunds",
            "refund.asked",
            "lock_refunds_with_orders",
            "end_refunds",
            "postpone_refunds",
            "add_refunded",
            "return_stock",
            "insert_automatic_refunds",
            "refund.before_script",
            "refund.script_run",
            "refund.before_trim",
            "refund.trimmed",
            "callback.read",
            "insert_callbacks",
            "callback.before_script",
            "callback.script_run",
            "callback.before_trim",
            "callback.trimmed",
            "claim_due_payments",
            "claim_due_refunds",
            "claim_waiting_refunds",
            "collector.asked",
            "lock_waiting_callbacks",
            "order_ids_by_code",
            "decide_callbacks",
            "collector.applied",
            "collector.before_emit",
            "collector.emitted",
            "append_events",
        ],
    ),
    // Transactions of all of them.
    (MONEY, 3, &["before_begin", "begin", "before_commit", "committed"]),
    ("notifier", 0, &["take_due_notifications", "before_mark_notifications_sent"]),
];

/// The places of a role.
pub(crate) fn of(role: &str) -> Vec<Place> {
    let rows = TABLE.iter().filter(|(of, ..)| *of == role);
    rows.flat_map(|&(role, passes, names)| names.iter().map(move |name| Place { name, role, passes })).collect()
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.role, self.name)
    }
}

/// Where a process is stopped as by SIGSTOP.
pub(crate) fn where_stopped() -> Vec<(Place, Vec<Action>)> {
    const STEPS: [&str; 4] = [".read", "before_commit", "committed", ".before_script"];
    let is_one = |place: &Place| STEPS.iter().any(|step| place.name.ends_with(step));
    let places = ["reservation", "payment", "settlement"].into_iter().flat_map(of).filter(is_one);
    places.map(|place| (place, Vec::new())).collect()
}

/// All names.
pub(crate) fn names() -> Vec<&'static str> {
    TABLE.iter().flat_map(|(_, _, names)| names.iter().copied()).collect()
}

/// Which faults to set in one run: all three one after the other, and with `ORDERSTREAM_FAULTS=full` each alone as well.
pub(crate) fn runs() -> Vec<Vec<Action>> {
    let mut runs = vec![Action::ALL.to_vec()];
    if is_full() {
        runs.extend(Action::ALL.map(|action| vec![action]));
    }
    runs
}

/// Whether everything is wanted that takes long.
pub(crate) fn is_full() -> bool {
    std::env::var("ORDERSTREAM_FAULTS").is_ok_and(|faults| faults == "full")
}
