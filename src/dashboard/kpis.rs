//! Figures of a range of days, and who leads.

use axum::{extract::State, response::Response};
use chrono::{Days, NaiveDate, Utc};
use minijinja::{Value, context};
use pipeline::{
    domain::Cents,
    relay::Board,
    store::{self, DayFigures},
    topology::Leaderboard,
};
use rustc_hash::FxHashMap;
use serde::Deserialize;

use super::{
    address::{Address, typed},
    page::{Nav, page},
    visitor::Visitor,
};
use crate::{
    commands::figures::{Kpis, read_currencies},
    http::{
        App,
        problem::Problem,
        query::{Params, day, invalid},
    },
};

/// Days that are shown unless others are chosen: today and those before.
const DAYS_SHOWN: u64 = 7;

/// Most days on the page.
const DAYS_MAX: i64 = 366;

/// Places of each leaderboard.
const PLACES: u32 = 10;

/// Which days.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Range {
    from: Option<String>,
    to: Option<String>,
}

/// The figures.
pub(super) async fn show(
    State(app): State<App>,
    visitor: Visitor,
    Params(range): Params<Range>,
) -> Result<Response, Problem> {
    let today = Utc::now().date_naive();
    let to = day("to", typed(&range.to))?.unwrap_or(today);
    let from = day("from", typed(&range.from))?.unwrap_or_else(|| before(to, DAYS_SHOWN - 1));
    if to < from || (to - from).num_days() >= DAYS_MAX {
        return Err(invalid("from, to", format!("a range has 1 to {DAYS_MAX} days")));
    }
    let days: Vec<NaiveDate> = from.iter_days().take_while(|day| *day <= to).collect();
    let board = Board::new(app.redis.keys().clone());
    let mut connection = app.connection().await?;
    let figures = app.answered(board.days(&mut connection, &days).await).await?;
    let mut sum = DayFigures::default();
    figures.iter().for_each(|figures| sum.add(figures));
    let of_day = (from == to).then_some(from);
    let (mut customers, mut products) = (Vec::new(), Vec::new());
    for (board_of, places) in [(Leaderboard::Customers, &mut customers), (Leaderboard::Products, &mut products)] {
        *places = app.answered(board.top(&mut connection, board_of, of_day, PLACES).await).await?;
    }
    let ids = |places: &[(i64, i64)]| places.iter().map(|(id, _)| *id).collect::<Vec<_>>();
    let pool = app.reports.pool();
    let customer_names = store::customer_names(&pool, &ids(&customers)).await?;
    let product_names = store::product_names(&pool, &ids(&products)).await?;
    let kpis = Kpis::new(from, to, &sum, read_currencies(&app.reports, Some(to)).await?);
    let leaders = read_currencies(&app.reports, of_day).await?;
    let spans = [("Today", 1), ("7 days", 7), ("30 days", 30), ("90 days", 90)].map(|(name, days)| {
        let start = before(today, days - 1);
        let path = Address::of("/kpis").with("from", Some(start)).with("to", Some(today)).text();
        context! { name, path, is_current => (start, today) == (from, to) }
    });
    let context = context! {
        from => from.to_string(),
        to => to.to_string(),
        spans,
        is_one_day => of_day.is_some(),
        currency => kpis.currencies.label(),
        currency_note => kpis.currencies.note(),
        leaders_currency => leaders.label(),
        leaders_note => leaders.note(),
        orders => kpis.orders,
        completed => kpis.completed,
        failed => kpis.failed,
        revenue => kpis.revenue.get(),
        refunds => kpis.refunds.get(),
        net_revenue => kpis.net_revenue.get(),
        average => kpis.average_order_value.map(Cents::get),
        paid_back => kpis.paid_back.get(),
        reasons => reasons(&sum),
        days => days.iter().zip(&figures).map(row).collect::<Vec<_>>(),
        columns => columns(&days, &figures),
        customers => places(&customers, &customer_names),
        products => places(&products, &product_names),
    };
    page(&app, &visitor, Nav::Kpis, "kpis.html", "KPIs", context)
}

fn before(day: NaiveDate, days: u64) -> NaiveDate {
    day.checked_sub_days(Days::new(days)).unwrap_or(day)
}

/// Reasons of failed orders, the most frequent first.
fn reasons(sum: &DayFigures) -> Vec<Value> {
    let mut reasons: Vec<_> = sum.failed_by.iter().collect();
    reasons.sort_by_key(|(_, orders)| -**orders);
    let reason = |(reason, orders): (&pipeline::domain::FailureReason, &i64)| {
        context! { reason => reason.as_str(), orders }
    };
    reasons.into_iter().map(reason).collect()
}

fn row((day, figures): (&NaiveDate, &DayFigures)) -> Value {
    context! {
        day => day.to_string(),
        orders => figures.completed + figures.failed,
        completed => figures.completed,
        failed => figures.failed,
        revenue => figures.revenue_cents,
        refunds => figures.refunded_cents,
        net_revenue => figures.revenue_cents - figures.refunded_cents,
        paid_back => figures.paid_back_cents,
    }
}

/// A column for each day of the picture: orders that completed, and on top of them those that failed. It is 100 high.
fn columns(days: &[NaiveDate], figures: &[DayFigures]) -> Vec<Value> {
    let most = figures.iter().map(|figures| figures.completed + figures.failed).max().unwrap_or(0).max(1);
    #[expect(clippy::cast_precision_loss, reason = "of a picture")]
    let height = |orders: i64| (orders as f64 / most as f64 * 1_000.0).round() / 10.0;
    let column = |(at, (day, figures)): (usize, (&NaiveDate, &DayFigures))| {
        context! {
            x => at * 10 + 1,
            day => day.to_string(),
            completed => figures.completed,
            failed => figures.failed,
            completed_height => height(figures.completed),
            failed_height => height(figures.failed),
        }
    };
    days.iter().zip(figures).enumerate().map(column).collect()
}

/// Places of a leaderboard, with the names that the catalogue has.
fn places(places: &[(i64, i64)], names: &FxHashMap<i64, String>) -> Vec<Value> {
    let place = |(rank, (id, score)): (usize, &(i64, i64))| {
        context! { rank, id, score, name => names.get(id) }
    };
    (1..).zip(places).map(place).collect()
}
