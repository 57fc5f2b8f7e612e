"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const [cloud, series, marked] = ["cloud", "series", "marked"].map(id => document.getElementById(id));
const [colour, site] = ["colour", "site"].map(id => document.getElementById(id));
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const MARK = "#D55E00";
// A page that works without network offers no button that uploads.
const settings = { responsive: true, displaylogo: false, showSendToCloud: false, modeBarButtonsToRemove: ["toImage"] };
const plain = { paper_bgcolor: "#fff", plot_bgcolor: "#fff", font: { size: 12 }, showlegend: false };
const line = { showline: true, linecolor: "#555", ticks: "outside", zeroline: false, showgrid: false };
let chosen = [];
let busy = false;

for (const [nth, one] of data.colours.entries()) colour.add(new Option(one.label, nth));
for (const name of data.sites) site.add(new Option(name));
document.getElementById("of-site").hidden = data.sites.length < 2;

// The points of the site that is shown, in time.
const here = () => [...data.site.keys()].filter(at => data.site[at] === site.selectedIndex);
const shown = () => data.colours[colour.value];
const hydrograph = () => (shown().observed ? shown() : data.colours.find(one => one.observed));
const pick = (values, at) => at.map(nth => values[nth]);

function drawCloud() {
  const one = shown();
  const bar = { title: { text: one.label, side: "right" }, thickness: 12, ...one.bar };
  return Plotly.react(cloud, [{
    type: "scatter", mode: "markers", x: data.x, y: data.y, text: data.text, hovertemplate: "%{text}<extra></extra>",
    marker: { size: 4, color: one.values, colorscale: one.scale, cmin: one.low, cmax: one.high, colorbar: bar },
    selectedpoints: chosen.length ? chosen : null,
    unselected: { marker: { opacity: 0.08 } },
  }], {
    ...plain, dragmode: "lasso", margin: { l: 55, r: 10, t: 30, b: 45 }, uirevision: "cloud",
    xaxis: { ...line, title: { text: data.axes[0] } }, yaxis: { ...line, title: { text: data.axes[1] } },
  }, settings);
}

function drawSeries() {
  const at = here();
  const one = hydrograph();
  const time = pick(data.time, at);
  const traces = [];
  const draw = (values, name, color) => traces.push({
    type: "scatter", mode: "lines+markers", x: time, y: pick(values, at), name, line: { color, width: 1 },
    // Seen by the selection alone, which knows no lines.
    marker: { size: 3, opacity: 0 }, selected: { marker: { opacity: 0 } }, unselected: { marker: { opacity: 0 } },
  });
  draw(one.observed, one.predicted ? "observed" : one.label, "#000");
  if (one.predicted) draw(one.predicted, "predicted", MARK);
  traces.push({
    type: "heatmap", x: time, y: data.units.map((_, nth) => nth), z: data.state.map(row => pick(row, at)), yaxis: "y2",
    colorscale: data.diverging, zmin: -data.widest, zmax: data.widest, zsmooth: false,
    hovertemplate: "%{x}, %{z:.1f} st. dev.<extra></extra>",
    colorbar: { title: { text: "st. dev. from mean", side: "right" }, thickness: 12, len: 0.55, y: 0.28 },
  });
  return Plotly.react(series, traces, {
    ...plain, showlegend: true, legend: { orientation: "h", x: 0, xanchor: "left", y: 1.01, yanchor: "bottom" },
    dragmode: "select", selectdirection: "h", margin: { l: 85, r: 10, t: 30, b: 40 }, uirevision: site.value,
    xaxis: { ...line, anchor: "y2", type: data.dates ? "date" : "linear" },
    yaxis: { ...line, domain: [0.62, 1], title: { text: one.label } },
    yaxis2: {
      ...line, domain: [0, 0.57], autorange: "reversed", title: { text: "unit (steps to half autocorrelation)" },
      tickvals: data.units.map((_, nth) => nth), ticktext: data.units, tickfont: { size: 9 },
    },
    shapes: marks(),
  }, settings);
}

// Marks over the hydrograph, one for each run of marked steps, and a veil over what is not marked in the heat map.
function marks() {
  if (!chosen.length) return [];
  const at = here();
  const isChosen = new Set(chosen);
  const found = [];
  at.forEach((nth, position) => {
    const name = isChosen.has(nth) ? "mark" : "veil";
    const end = data.time[at[Math.min(position + 1, at.length - 1)]];
    const last = found[found.length - 1];
    if (last && last.name === name) last.x1 = end;
    else found.push({ type: "rect", xref: "x", yref: "paper", x0: data.time[nth], x1: end, name });
  });
  const looks = {
    mark: { y0: 0.59, y1: 1, fillcolor: MARK, opacity: 0.3, line: { width: 1, color: MARK } },
    veil: { y0: 0, y1: 0.57, fillcolor: "#fff", opacity: 0.75, line: { width: 0 } },
  };
  return found.map(one => ({ ...one, ...looks[one.name] }));
}

function number(value) {
  return Number.isFinite(value) ? value.toPrecision(3) : "\u2013";
}

function mean(values) {
  const known = values.filter(value => value !== null);
  return known.reduce((sum, value) => sum + value, 0) / known.length;
}

function element(name, text, ...children) {
  const one = document.createElement(name);
  one.textContent = text;
  one.append(...children);
  return one;
}

function describe() {
  if (!chosen.length) {
    marked.replaceChildren(element("p", `No ${data.per} are marked.`));
    return;
  }
  const count = new Array(12).fill(0);
  for (const at of chosen) count[data.month[at] - 1] += 1;
  const months = [...count.keys()].filter(month => count[month]).sort((one, other) => count[other] - count[one]);
  const share = months.slice(0, 4).map(month => `${MONTHS[month]} ${Math.round(100 * count[month] / chosen.length)} %`);
  const rows = data.colours.filter(one => one.observed).map(one => element("tr", "",
    element("th", one.label), element("td", number(mean(pick(one.observed, chosen)))),
    element("td", number(mean(one.observed)))));
  const head = element("thead", "", element("tr", "", element("th", "mean of"), element("th", "marked"), element("th", "all")));
  marked.replaceChildren(
    element("p", `${chosen.length} of ${data.time.length} ${data.per} are marked: ${share.join(", ")}.`),
    element("table", "", head, element("tbody", "", ...rows)),
  );
}

// Plotly reports as a selection also what is changed here, and an answer to that would never end.
async function quietly(change) {
  if (busy) return;
  busy = true;
  try {
    await change();
  } finally {
    busy = false;
  }
}

function mark(points, from) {
  return quietly(async () => {
    chosen = [...new Set(points)].sort((one, other) => one - other);
    // What was drawn in the other plot says something else now.
    const anew = plot => (plot === from && chosen.length ? {} : { selections: [] });
    describe();
    await Plotly.update(cloud, { selectedpoints: [chosen.length ? chosen : null] }, anew(cloud));
    await Plotly.relayout(series, { shapes: marks(), ...anew(series) });
  });
}

drawCloud();
drawSeries();
describe();
Plotly.newPlot("distances", data.distances, {
  ...plain, showlegend: true, legend: { x: 1, xanchor: "right", y: 1 }, margin: { l: 55, r: 10, t: 30, b: 45 },
  xaxis: { ...line, title: { text: "distance of two states" } },
  yaxis: { ...line, title: { text: "pairs (% of each kind)" }, range: [0, data.highest] },
}, settings);

cloud.on("plotly_selected", event => event && mark(event.points.map(point => point.pointIndex), cloud));
series.on("plotly_selected", event => event && mark(event.points.map(point => here()[point.pointIndex]), series));
for (const plot of [cloud, series]) plot.on("plotly_deselect", () => mark([], plot));
colour.addEventListener("change", () => quietly(() => Promise.all([drawCloud(), drawSeries()])));
site.addEventListener("change", () => quietly(drawSeries));
document.getElementById("clear").addEventListener("click", () => mark([], null));
