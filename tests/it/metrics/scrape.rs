//! What `/metrics` answered, read as Prometheus reads it.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Stdio,
};

use tokio::{io::AsyncWriteExt, process::Command};

use crate::program::client::Api;

/// One answer.
#[derive(Debug)]
pub(crate) struct Scrape {
    pub(crate) text: String,
    /// Series as they stand there, with their values.
    series: BTreeMap<String, f64>,
    types: BTreeMap<String, String>,
}

/// A family: its type and the names of its labels.
pub(crate) type Shape = (String, BTreeSet<String>);

impl Scrape {
    pub(crate) async fn of(api: &Api) -> Self {
        let answer = api.get("/metrics").await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
        Self::read(answer.text)
    }

    fn read(text: String) -> Self {
        let (mut series, mut types) = (BTreeMap::new(), BTreeMap::new());
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a name and a type");
                assert_eq!(types.insert(name.to_owned(), kind.to_owned()), None, "{name} comes twice");
            } else if !line.starts_with('#') {
                let (name, value) = line.rsplit_once(' ').expect("a series and a value");
                let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
                assert_eq!(series.insert(name.to_owned(), value), None, "{name} comes twice");
            }
        }
        Self { text, series, types }
    }

    /// The value of a series; `None` if it is absent.
    pub(crate) fn get(&self, series: &str) -> Option<f64> {
        self.series.get(series).copied()
    }

    /// The value of a series that should be there.
    pub(crate) fn value(&self, series: &str) -> f64 {
        self.get(series).unwrap_or_else(|| panic!("there is no {series} in:\n{}", self.text))
    }

    /// The values of all series of a family, together.
    pub(crate) fn sum(&self, family: &str) -> f64 {
        self.of_family(family).map(|(_, value)| value).sum()
    }

    /// How many series a family has.
    pub(crate) fn count(&self, family: &str) -> usize {
        self.of_family(family).count()
    }

    fn of_family<'a>(&'a self, family: &'a str) -> impl Iterator<Item = (&'a String, f64)> {
        let is_of = move |name: &str| name.split('{').next() == Some(family);
        self.series.iter().filter(move |(name, _)| is_of(name)).map(|(name, value)| (name, *value))
    }

    /// What families there are.
    pub(crate) fn families(&self) -> BTreeMap<String, Shape> {
        let shape = |(name, kind): (&String, &String)| {
            let series = if kind == "histogram" { format!("{name}_bucket") } else { name.clone() };
            let labels: BTreeSet<String> =
                self.of_family(&series).flat_map(|(series, _)| labels(series)).filter(|label| label != "le").collect();
            (name.clone(), (kind.clone(), labels))
        };
        self.types.iter().map(shape).collect()
    }

    /// Fails if Prometheus' own tool finds something to complain of.
    pub(crate) async fn is_accepted_by_promtool(&self) {
        let mut command = Command::new("promtool");
        command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut promtool = command.spawn().expect("promtool, which scripts/setup.sh installs");
        let mut stdin = promtool.stdin.take().expect("a pipe");
        stdin.write_all(self.text.as_bytes()).await.expect("promtool reads");
        drop(stdin);
        let done = promtool.wait_with_output().await.expect("promtool ends");
        let said = [done.stdout, done.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert!(done.status.success() && said.is_empty(), "{said}");
    }
}

/// The names of labels in a series. Values of ours hold no commas and no equals signs.
fn labels(series: &str) -> Vec<String> {
    let Some((_, inside)) = series.trim_end_matches('}').split_once('{') else { return Vec::new() };
    inside.split(',').filter_map(|pair| Some(pair.split_once('=')?.0.to_owned())).collect()
}
