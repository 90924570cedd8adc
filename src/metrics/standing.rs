//! How the pipeline stands, as the monitor saw it: the same look that the dashboard and `top` show.
//!
//! Made anew for whoever asks, so that a figure that is unknown is absent, as it should be, and not what it was when it
//! was known. While Redis is away, everything that comes from it is unknown; that it is away, and how old the last look
//! is, is told.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use pipeline::{
    domain::FailureReason,
    message::DeadReason,
    metrics::{gauges, growing},
};
use prometheus::{core::Collector, proto::MetricFamily};

use crate::monitor::{Snapshot, StageView};

/// The figures of a snapshot, seen at `now`.
pub(super) fn families(snapshot: &Snapshot, now: DateTime<Utc>) -> Vec<MetricFamily> {
    let mut sheet = Sheet(Vec::new());
    sheet.monitor(snapshot, now);
    if snapshot.seq > 0 && snapshot.stale.is_none() {
        sheet.stages(&snapshot.stages);
        sheet.board(snapshot);
        sheet.dead_letters(snapshot);
        let live = snapshot.processes.iter().filter(|process| process.is_live()).count();
        sheet.one("orderstream_processes", "Processes that have said something within seconds.", Some(live as f64));
    }
    sheet.orders(snapshot);
    sheet.0
}

/// Families that have at least one figure.
struct Sheet(Vec<MetricFamily>);

impl Sheet {
    fn monitor(&mut self, snapshot: &Snapshot, now: DateTime<Utc>) {
        let looked = snapshot.seq > 0;
        let age = now.signed_duration_since(snapshot.at).as_seconds_f64().max(0.0);
        self.one("orderstream_monitor_sample_age_seconds", "Age of the last whole look.", looked.then_some(age));
        let up = |away: bool| (looked || away).then_some(if away { 0.0 } else { 1.0 });
        // One that lets nobody look answers all the same.
        let redis_away = snapshot.stale.is_some() && snapshot.redis_refuses.is_none();
        let servers = [("redis", up(redis_away)), ("postgres", up(snapshot.postgres_away.is_some()))];
        self.many(
            "orderstream_monitor_server_up",
            "Whether the server answered the last look.",
            &["server"],
            servers.into_iter().filter_map(|(server, up)| Some(([server], up?))),
        );
        let takes = |refuses: bool, away: bool| (looked && !away).then_some(flag(!refuses));
        let servers = [
            ("redis", takes(snapshot.redis_refuses.is_some(), redis_away)),
            ("postgres", takes(snapshot.postgres_refuses.is_some(), false)),
        ];
        self.many(
            "orderstream_monitor_server_writable",
            "Whether the server took writes at the last look, as far as that is known.",
            &["server"],
            servers.into_iter().filter_map(|(server, takes)| Some(([server], takes?))),
        );
        self.many(
            "orderstream_alert_firing",
            "Whether a built-in alert fires.",
            &["rule"],
            snapshot.alerts.iter().map(|alert| ([alert.rule.as_str()], flag(alert.state == "firing"))),
        );
    }

    fn stages(&mut self, stages: &[StageView]) {
        let by_stage = |figure: fn(&StageView) -> f64| {
            stages.iter().map(move |view| ([view.stream, view.stage.as_str()], figure(view)))
        };
        let streams = &["stream", "stage"];
        self.many(
            "orderstream_stream_length",
            "Entries in the stream, read or not.",
            streams,
            by_stage(|view| view.length as f64),
        );
        let added =
            growing("orderstream_stream_entries_added_total", "Entries that were ever added to the stream.", streams);
        for (labels, value) in by_stage(|view| view.entries_added as f64) {
            added.with_label_values(&labels).inc_by(value);
        }
        self.add(&added);
        let groups = &["stream", "group"];
        self.many(
            "orderstream_stream_group_lag",
            "Entries that nobody in the group has read.",
            groups,
            stages.iter().filter_map(|view| Some(([view.stream, view.stage.as_str()], view.lag? as f64))),
        );
        self.many(
            "orderstream_stream_group_lag_known",
            "Whether Redis can tell how many entries nobody has read.",
            groups,
            by_stage(|view| flag(view.lag.is_some())),
        );
        self.many(
            "orderstream_stream_group_lag_seconds",
            "Age of the oldest entry that nobody in the group has read.",
            groups,
            by_stage(|view| view.lag_seconds),
        );
        self.many(
            "orderstream_stream_group_pending",
            "Entries that were read and not acknowledged.",
            groups,
            by_stage(|view| view.pending as f64),
        );
        self.many(
            "orderstream_stream_group_oldest_pending_seconds",
            "Age of the oldest entry that was read and not acknowledged.",
            groups,
            by_stage(|view| view.oldest_pending_seconds),
        );
        self.many(
            "orderstream_stream_group_consumers",
            "Consumers in the group.",
            groups,
            by_stage(|view| view.consumers as f64),
        );
        self.many(
            "orderstream_stream_group_missing",
            "Entries that were neither acknowledged nor are pending or unread.",
            groups,
            stages.iter().filter_map(|view| Some(([view.stream, view.stage.as_str()], view.missing? as f64))),
        );
        for (name, help, figure) in [
            (
                "orderstream_stream_group_lost_total",
                "Entries that were found to be gone without having been processed.",
                (|view| view.lost as f64) as fn(&StageView) -> f64,
            ),
            (
                "orderstream_stream_group_redriven_total",
                "Entries that were delivered to nobody and given out again.",
                |view| view.redriven as f64,
            ),
        ] {
            let family = growing(name, help, groups);
            for (labels, value) in by_stage(figure) {
                family.with_label_values(&labels).inc_by(value);
            }
            self.add(&family);
        }
        self.many(
            "orderstream_stage_paused",
            "Whether somebody has paused the stage.",
            &["stage"],
            stages.iter().map(|view| ([view.stage.as_str()], flag(view.paused.is_some()))),
        );
    }

    fn board(&mut self, snapshot: &Snapshot) {
        let (relay, today) = (&snapshot.relay, &snapshot.today);
        let float = |figure: Option<i64>| figure.map(|figure| figure as f64);
        self.one("orderstream_relay_cursor", "The last event that the board shows.", float(relay.cursor));
        self.one("orderstream_relay_last_event", "The last event in Postgres.", float(relay.last_event));
        self.one("orderstream_relay_behind_events", "Events that the board lacks.", float(relay.behind));
        self.one(
            "orderstream_relay_behind_seconds",
            "Age of the oldest event that the board lacks.",
            relay.behind_seconds,
        );
        self.many(
            "orderstream_orders_today",
            "Orders that were created on this UTC day and have reached their end.",
            &["outcome"],
            [(["completed"], today.completed as f64), (["failed"], today.failed as f64)],
        );
        let told = FailureReason::ALL.iter().map(|reason| {
            let reason = reason.as_str();
            (reason, today.failed_by.get(reason).copied().unwrap_or_default())
        });
        let other = today.failed.saturating_sub(told.clone().map(|(_, n)| n).sum());
        self.many(
            "orderstream_failed_orders_today",
            "Orders that were created on this UTC day and have failed, by reason.",
            &["reason"],
            told.chain([("other", other)]).map(|(reason, n)| ([reason], n as f64)),
        );
        self.one(
            "orderstream_revenue_today_minor_units",
            "Revenue of this UTC day, before refunds.",
            float(Some(today.revenue_cents)),
        );
        self.one(
            "orderstream_refunded_today_minor_units",
            "What was refunded on this UTC day, whatever day its order is of. Without money that came late, which was never revenue.",
            float(Some(today.paid_back_cents)),
        );
        self.one(
            "orderstream_refunds_of_todays_orders_minor_units",
            "What went back of the orders of this UTC day.",
            float(Some(today.refunded_cents)),
        );
        self.many(
            "orderstream_currency_info",
            "1 for every currency that the amounts of this installation are in: several are added up at face value.",
            &["currency"],
            today.currencies.names().map(|currency| ([currency], 1.0)),
        );
    }

    fn dead_letters(&mut self, snapshot: &Snapshot) {
        let stored = snapshot.dead_letters.count as f64;
        self.one("orderstream_dead_letters_stored", "Dead letters that are kept, replayed or not.", Some(stored));
        let undecided = snapshot.dead_letters.undecided as f64;
        self.one(
            "orderstream_dead_letters_undecided",
            "Dead letters that nobody has replayed: they wait for somebody to decide.",
            Some(undecided),
        );
        let mut reasons: BTreeMap<&str, u64> = DeadReason::ALL.iter().map(|reason| (reason.as_str(), 0)).collect();
        let mut other = 0;
        for (reason, letters) in &snapshot.dead_letters.reasons {
            // Whoever may write to the stream of dead letters may write any word.
            *reasons.get_mut(reason.as_str()).unwrap_or(&mut other) += letters;
        }
        self.many(
            "orderstream_dead_letters",
            "The newest dead letters that nobody has replayed, by reason.",
            &["reason"],
            reasons.into_iter().chain([("other", other)]).map(|(reason, n)| ([reason], n as f64)),
        );
    }

    fn orders(&mut self, snapshot: &Snapshot) {
        let float = |figure: Option<i64>| figure.map(|figure| figure as f64);
        self.one(
            "orderstream_parked_orders",
            "Orders whose message is a dead letter, and that wait for it.",
            float(snapshot.parked_orders),
        );
        self.one(
            "orderstream_abandoned_imports",
            "Imports of the last day whose process vanished, and whose file nobody has imported since.",
            float(snapshot.abandoned_imports.as_ref().map(|imports| imports.count)),
        );
        self.one(
            "orderstream_stock_drift_products",
            "Products whose reserved pieces differ from what open orders hold.",
            float(snapshot.drift),
        );
    }

    fn one(&mut self, name: &str, help: &str, value: Option<f64>) {
        self.many(name, help, &[], value.map(|value| ([], value)));
    }

    fn many<'a, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str; N],
        figures: impl IntoIterator<Item = ([&'a str; N], f64)>,
    ) {
        let family = gauges(name, help, labels);
        for (labels, value) in figures {
            family.with_label_values(&labels).set(value);
        }
        self.add(&family);
    }

    fn add(&mut self, family: &impl Collector) {
        self.0.extend(family.collect().into_iter().filter(|family| !family.get_metric().is_empty()));
    }
}

fn flag(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;
    use crate::monitor::{AlertView, Away};

    fn text(snapshot: &Snapshot) -> String {
        TextEncoder::new().encode_to_string(&families(snapshot, snapshot.at)).expect("text")
    }

    fn seen() -> Snapshot {
        Snapshot { seq: 1, ..Snapshot::nothing_yet() }
    }

    #[test]
    fn before_the_first_look_nothing_is_known() {
        assert_eq!(text(&Snapshot::nothing_yet()), "");
    }

    #[test]
    fn a_server_that_never_answered_is_away() {
        let away = Away { since: Utc::now(), error: "refused".to_owned() };
        let snapshot = Snapshot { stale: Some(away), ..Snapshot::nothing_yet() };
        let text = text(&snapshot);
        assert!(text.contains("orderstream_monitor_server_up{server=\"redis\"} 0\n"), "{text}");
        assert!(!text.contains("sample_age") && !text.contains("postgres"), "{text}");
    }

    #[test]
    fn words_that_nobody_foresaw_make_no_series() {
        let mut snapshot = seen();
        snapshot.dead_letters.reasons = [("conflict".to_owned(), 2), ("x".to_owned(), 3), ("y".to_owned(), 4)].into();
        snapshot.today.failed = 9;
        snapshot.today.failed_by = [("out_of_stock".to_owned(), 5), ("weather".to_owned(), 1)].into();
        let text = text(&snapshot);
        for line in [
            "orderstream_dead_letters{reason=\"conflict\"} 2",
            "orderstream_dead_letters{reason=\"deleted\"} 0",
            "orderstream_dead_letters{reason=\"other\"} 7",
            "orderstream_failed_orders_today{reason=\"out_of_stock\"} 5",
            "orderstream_failed_orders_today{reason=\"other\"} 4",
        ] {
            assert!(text.lines().any(|each| each == line), "no {line} in:\n{text}");
        }
        assert!(!text.contains("weather") && !text.contains("\"x\""), "{text}");
    }

    #[test]
    fn alerts_and_drift_are_shown_once_somebody_has_looked() {
        let alert = |rule: &str, state: &str| AlertView {
            rule: rule.to_owned(),
            severity: crate::alerts::Severity::Critical,
            state: state.to_owned(),
            since: None,
            changed_at: None,
            value: None,
            stage: None,
            message: String::new(),
            threshold: String::new(),
            limit: None,
            runbook: String::new(),
            unsent: Vec::new(),
        };
        let alerts = vec![alert("lag_behind", "firing"), alert("no_progress", "calm")];
        let text = text(&Snapshot { drift: Some(0), alerts, ..seen() });
        assert!(text.contains("orderstream_stock_drift_products 0\n"), "{text}");
        assert!(text.contains("orderstream_alert_firing{rule=\"lag_behind\"} 1\n"), "{text}");
        assert!(text.contains("orderstream_alert_firing{rule=\"no_progress\"} 0\n"), "{text}");
    }
}
