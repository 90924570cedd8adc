// Draws what the table below the chart says. Without this file the table is there.
const dark = matchMedia("(prefers-color-scheme: dark)");

// Canvas knows no light-dark(): a probe tells what a token is now.
function colour(token) {
  const probe = document.createElement("i");
  probe.className = "hidden";
  probe.style.color = `var(${token})`;
  document.body.append(probe);
  const shown = getComputedStyle(probe).color;
  probe.remove();
  return shown;
}

function number(value) {
  return value === null || value === undefined ? "unknown" : value.toLocaleString("en-US", { maximumFractionDigits: 1 });
}

// Beside an axis there is little room: a number that was cut is another number. The legend has all of it.
function tick(value) {
  return Math.abs(value) < 100_000 ? number(value) : value.toLocaleString("en-US", { notation: "compact", maximumFractionDigits: 2 });
}

function options(width, title, series, height, isLast) {
  const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line"), width: 1 } };
  return {
    width, height, padding: [8, 20, 0, 0],
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
    cursor: { sync: { key: "time" }, points: { size: 6 } },
    scales: { y: { range: (_, low, high) => [0, Math.max(high * 1.08, 4)] } },
    axes: [{ ...axis, show: isLast, values: (_, ticks) => ticks.map((at) => new Date(at * 1000).toISOString().slice(11, 16)) }, { ...axis, size: 64, label: title, labelSize: 18, labelFont: "12px system-ui", values: (_, ticks) => ticks.map(tick) }],
    series: [{ value: (_, at) => at === null ? "–" : new Date(at * 1000).toISOString().slice(11, 19) + " UTC" }, ...series.map(([label, token, dash]) => ({
      label, stroke: colour(token), width: 1.8, dash, spanGaps: false, points: { show: false }, value: (_, value, __, index) => index === null ? "–" : number(value),
    }))],
  };
}

async function draw(element) {
  const answer = await fetch(element.dataset.chart);
  if (!answer.ok) return;
  const history = await answer.json();
  const stage = history.stages[element.dataset.stage];
  const columns = [
    ["messages", [["lag", "--warn"], ["pending", "--busy", [5, 4]]], [stage.lag, stage.pending], 170],
    ["seconds", [["behind, s", "--bad"]], [stage.lag_seconds], 110],
    ["a second", [["in", "--busy", [5, 4]], ["done", "--good"]], [stage.rate_in, stage.rate_out], 190],
  ];
  element.replaceChildren();
  const width = element.clientWidth;
  const charts = columns.map(([title, series, values, height], index) => new uPlot(options(width, title, series, height, index === columns.length - 1), [history.at, ...values], element));
  new ResizeObserver(() => charts.forEach((chart) => {
    if (element.clientWidth !== chart.width && element.clientWidth > 0) chart.setSize({ width: element.clientWidth, height: chart.height });
  })).observe(element);
}

async function all() {
  for (const element of document.querySelectorAll("[data-chart]")) {
    try { await draw(element); } catch (error) { console.error(error); }
  }
}
addEventListener("DOMContentLoaded", all);
if (document.readyState === "complete") all();
dark.addEventListener("change", all);
let drawnAt = Date.now();
document.body.addEventListener("look", () => {
  if (Date.now() - drawnAt < 15_000) return;
  drawnAt = Date.now();
  all();
});
