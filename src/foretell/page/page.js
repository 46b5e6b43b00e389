"use strict";
let data = JSON.parse(document.getElementById("data").textContent);
const PALETTES = {
  light: ["#1f6fb4", "#d9822b", "#2a8f5c", "#8a4fbf", "#c0392b", "#0f8b8d", "#a5672b", "#5f6b76"],
  dark: ["#6db1ec", "#f0a55a", "#5cc792", "#bb8fe6", "#ef7c70", "#4fc3c5", "#d3a06a", "#a4b0bb"],
};
const DASHES = ["dash", "dot", "dashdot", "longdash"];
const CONFIG = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"] };

// Plotly reads some HTML in its texts; names of runs are not ours.
const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const variable = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const isDark = () => document.documentElement.dataset.theme === "dark";
const colour = (i) => PALETTES[isDark() ? "dark" : "light"][i % 8];
const faded = (hex, alpha) => `rgba(${[1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16)).join(",")},${alpha})`;
const short = (value) => (value === null || value === undefined || Number.isNaN(value) ? "–" : String(+value.toPrecision(4)));
const range = (n) => Array.from({ length: n }, (_, i) => i);

function layout(x, y, more = {}) {
  const axis = { gridcolor: variable("--grid"), zerolinecolor: variable("--line"), linecolor: variable("--line"), automargin: true };
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 50, r: 12, t: 8, b: 40 },
    font: { color: variable("--ink"), size: 12, family: "system-ui, sans-serif" }, hovermode: "closest", showlegend: true,
    hoverlabel: { namelength: -1, align: "left" },
    legend: { orientation: "h", y: 1.02, x: 0, yanchor: "bottom", font: { size: 11.5 } },
    xaxis: { ...axis, title: { text: x, standoff: 6 }, ...more.xaxis },
    yaxis: { ...axis, title: { text: y, standoff: 6 }, ...more.yaxis },
    ...Object.fromEntries(Object.entries(more).filter(([key]) => key !== "xaxis" && key !== "yaxis")),
  };
}
const draw = (element, traces, form) => Plotly.react(element, traces, form, CONFIG);

function clock(seconds) {
  if (seconds < 300) return [1, "s"];
  return seconds < 10800 ? [60, "min"] : [3600, "h"];
}

// Learning curves
function drawPanel(element, panel, view) {
  const over = view.x, ends = panel.groups.flatMap((group) => group.runs.map((run) => run[over].at(-1)));
  const most = Math.max(...ends), [unit, name] = over === "steps" ? [1, ""] : clock(most);
  const traces = panel.groups.flatMap((group, i) => groupTraces(group, i, view, unit));
  const published = view.references && over === "steps" && view.y !== "success" ? panel.references.filter((one) => one.best === (view.y === "best")) : [];
  traces.push(...published.map(referenceTrace));
  const of = [...new Set(panel.groups.map((group) => group.of))].join(" and ");
  const ylabel = `${{ best: "best return so far", success: "success rate" }[view.y] ?? "return"} (${of})`;
  const xlabel = over === "steps" ? "environment steps" : `wall time (${name})`;
  draw(element, traces, layout(xlabel, ylabel, { xaxis: { range: [0, (1.04 * most) / unit] } }));
  const note = document.querySelector(`[data-published="${element.dataset.panel}"]`);
  if (note) note.textContent = publishedNote(panel, view, most);
}

function publishedNote(panel, view, most) {
  if (!view.references) return "";
  if (view.y === "success") return "Published results are returns.";
  if (view.x !== "steps") return "Published results are over environment steps alone.";
  const shown = panel.references.filter((one) => one.best === (view.y === "best"));
  if (!shown.length) return `Published results are ${view.y === "best" ? "no best returns" : "best returns"} so far: choose ${view.y === "best" ? "“as it is”" : "“best so far”"}.`;
  const sources = shown.map((one) => `${one.label}: ${one.about}.`).join(" ");
  return shown.some((one) => one.x.at(-1) > 1.04 * most) ? `${sources} Some lie further right: double click the figure to zoom out.` : sources;
}

function groupTraces(group, i, view, unit) {
  if (!group.bands[view.y]) return [];
  const hue = colour(i), band = group.bands[view.y][view.x], runs = group.runs.length;
  const common = { legendgroup: String(i), mode: "lines", type: "scatter" };
  const scaled = (x) => (unit === 1 ? x : x.map((value) => value / unit));
  const label = `${plain(group.label)}${runs > 1 ? `, ${runs} runs` : ""}`;
  const traces = [];
  if (band && runs > 1) {
    const edge = { ...common, x: scaled(band.x), line: { width: 0 }, hoverinfo: "skip", showlegend: false };
    traces.push({ ...edge, y: band.low }, { ...edge, y: band.high, fill: "tonexty", fillcolor: faded(hue, 0.2) });
  }
  if (view.runs || !band) {
    for (const run of group.runs) traces.push({
      ...common, x: scaled(run[view.x]), y: run[view.y], line: { color: faded(hue, 0.55), width: 1 }, name: plain(run.name),
      showlegend: false, hovertemplate: "%{y:.5g} at %{x:,}<extra>%{fullData.name}</extra>",
    });
  }
  const line = band || { x: [null], middle: [null] };
  const mode = line.x.length <= 30 ? "lines+markers" : "lines";
  traces.push({ ...common, mode, x: scaled(line.x), y: line.middle, name: label, line: { color: hue, width: 2.4, dash: ["solid", ...DASHES][Math.floor(i / 8) % 5] }, marker: { size: 5, color: hue },
    hovertemplate: "%{y:.5g} at %{x:,}<extra>%{fullData.name}</extra>" });
  return traces;
}

function referenceTrace(one, i) {
  const grey = variable("--soft");
  return {
    x: one.x, y: one.y, name: plain(one.label), type: "scatter", mode: one.x.length > 1 ? "lines+markers" : "markers",
    line: { color: grey, width: 1.4, dash: DASHES[i % 4] }, marker: { color: grey, size: one.x.length > 1 ? 4 : 9, symbol: i % 4 },
    hovertemplate: `%{y} at %{x:,}<br>${plain(one.about)}<extra>${plain(one.label)}</extra>`,
  };
}

function viewOf(form) {
  const found = new FormData(form);
  return { y: found.get("y"), x: found.get("x"), runs: found.has("runs"), references: found.has("references") };
}

function drawCurves() {
  const form = document.getElementById("view");
  if (!form) return;
  const view = viewOf(form);
  for (const element of document.querySelectorAll("[data-panel]")) drawPanel(element, data.panels[element.dataset.panel], view);
}

// Time by phase, and measurements during training
function drawTimes() {
  const element = document.getElementById("times");
  if (!element) return;
  const labels = data.times.map((share) => plain(share.label)), phases = Object.keys(data.times[0].seconds);
  const most = Math.max(...data.times.map((share) => Object.values(share.seconds).reduce((a, b) => a + b, 0))), [unit, name] = clock(most);
  const traces = phases.map((phase, i) => ({
    type: "bar", orientation: "h", name: phase, y: labels, x: data.times.map((share) => share.seconds[phase] / unit), marker: { color: colour(i) },
    hovertemplate: `%{x:.3g} ${name}<extra>${phase}</extra>`,
  }));
  element.style.height = `${130 + 34 * labels.length}px`;
  const narrow = element.clientWidth < 500;
  draw(element, traces, layout(`wall time (${name})`, "", { barmode: "stack", yaxis: { autorange: "reversed", title: null, showticklabels: !narrow || labels.length > 1, tickfont: { size: narrow ? 9 : 12 } }, margin: { l: 10, r: 12, t: 34, b: 40 } }));
}

function drawMeasurements() {
  const element = document.getElementById("measurements");
  if (!element) return;
  const chosen = document.getElementById("measured").value;
  const traces = data.diagnostics.filter((run) => run.columns[chosen]).map((run, i) => ({
    type: "scatter", mode: "lines+markers", x: run.steps, y: run.columns[chosen], name: plain(run.run), line: { color: colour(run.group), width: 1.6 }, marker: { size: 4 }, opacity: 1 - 0.1 * (i % 5),
  }));
  draw(element, traces, layout("environment steps", chosen));
  document.getElementById("meaning").textContent = data.meanings[chosen] ?? "";
}

// What the model believed
function unpack(one) {
  if (!one) return null;
  const bytes = Uint8Array.from(atob(one.data), (character) => character.charCodeAt(0)), view = new DataView(bytes.buffer);
  const columns = one.shape.at(-1), strides = one.shape.map((_, i) => one.shape.slice(i + 1).reduce((a, b) => a * b, 1));
  const value = (...index) => {
    const place = index.reduce((sum, i, axis) => sum + i * strides[axis], 0), code = view.getUint16(2 * place, true), d = place % columns;
    return code === 65535 ? null : one.low[d] + (code / 65534) * (one.high[d] - one.low[d]);
  };
  return { shape: one.shape, value };
}

class Believed {
  constructor(root, tree) {
    this.root = root; this.tree = tree; this.at = 0; this.timer = null;
    for (const name of ["planned", "expected", "rejected", "plans"]) this[name] = unpack(tree[name]);
    this.std = tree.obs.map((row) => {
      const mean = row.reduce((a, b) => a + b, 0) / row.length;
      return Math.sqrt(row.reduce((a, b) => a + (b - mean) ** 2, 0) / row.length) || 1;
    });
    if (!tree.frames.some(Boolean)) root.querySelector(".frame").classList.add("none");
    root.querySelector(".moment").addEventListener("input", (event) => { this.at = +event.target.value; this.draw(); });
    for (const name of [".dimension", ".action", ".whole", ".by-member"]) root.querySelector(name)?.addEventListener("change", () => this.draw());
    root.querySelector(".play").addEventListener("click", () => this.toggle());
  }

  toggle() {
    const button = this.root.querySelector(".play");
    if (this.timer) { clearInterval(this.timer); this.timer = null; button.textContent = "play"; return; }
    button.textContent = "pause";
    this.timer = setInterval(() => { this.at = (this.at + 1) % this.tree.times.length; this.root.querySelector(".moment").value = this.at; this.draw(); }, 350);
  }

  chosen(name) { return +(this.root.querySelector(name)?.value ?? 0); }
  plot(name, traces, form) { const element = this.root.querySelector(name); if (element) draw(element, traces, form); }

  draw() {
    const { tree, at } = this, t = tree.times[at], reward = tree.rewards[t];
    this.root.querySelector(".time").textContent = `step ${t} of ${tree.rewards.length}, reward ${short(reward)}`;
    const picture = this.root.querySelector(".picture");
    if (tree.frames[at]) picture.src = tree.frames[at]; else picture.removeAttribute("src");
    this.drawTrajectory(t); this.drawPlans(t); this.drawCandidates(); this.drawSearch(); this.drawTargets(); this.drawHorizon(); this.drawNearest(); this.explain(t);
  }

  drawAll() { this.draw(); this.drawAccuracy(); }

  particles(fan, d, t, last) {
    const [, steps, count] = fan.shape, x = [], y = [], mean = range(steps).map(() => 0), length = Math.min(steps, last - t + 1);
    for (const p of range(count)) {
      for (const k of range(length)) { const value = fan.value(this.at, k, p, d); x.push(t + k); y.push(value); mean[k] += value / count; }
      x.push(null); y.push(null);
    }
    const line = (p) => ({ x: x.slice(p * (length + 1), (p + 1) * (length + 1)), y: y.slice(p * (length + 1), (p + 1) * (length + 1)) });
    return { x, y, line, count, mean: mean.slice(0, length), times: range(length).map((k) => t + k) };
  }

  // One trace for all particles, or one for each in the colour of the member that it follows.
  fan(found, hue, common) {
    const form = { ...common, hoverinfo: "skip", showlegend: false };
    if (!this.root.querySelector(".by-member")?.checked) return [{ ...form, x: found.x, y: found.y, line: { color: faded(hue, 0.45), width: 0.9 } }];
    return range(found.count).map((p) => ({ ...form, ...found.line(p), line: { color: faded(colour(2 + this.tree.members.shown[p]), 0.8), width: 1.1 } }));
  }

  drawTrajectory(t) {
    const { tree } = this, d = this.chosen(".dimension"), real = tree.obs[d], last = real.length - 1, traces = [];
    const fans = [["planned", "expected of the plan", 0, Infinity], ["expected", "expected of the executed actions", 1, last]];
    if (this.rejected) {
      const [, candidates, steps] = this.rejected.shape;
      const rows = range(candidates).flatMap((c) => [...range(steps).map((k) => [t + k, this.rejected.value(this.at, c, k, d)]), [null, null]]);
      traces.push({ type: "scatter", mode: "lines", x: rows.map((row) => row[0]), y: rows.map((row) => row[1]), name: "expected of rejected candidates", line: { color: variable("--soft"), width: 1, dash: "dot" }, opacity: 0.7, hoverinfo: "skip", visible: "legendonly" });
    }
    for (const [name, label, i, end] of fans) {
      if (!this[name]) continue;
      const found = this.particles(this[name], d, t, end), hue = colour(i), common = { type: "scatter", mode: "lines", legendgroup: name };
      traces.push(...this.fan(found, hue, common));
      traces.push({ ...common, x: found.times, y: found.mean, name: label, line: { color: hue, width: 2.2 } });
    }
    traces.push({ type: "scatter", mode: "lines", x: range(real.length), y: real, name: "real", line: { color: variable("--ink"), width: 1.8 } });
    const horizon = this.expected.shape[1] - 1, whole = this.root.querySelector(".whole").checked;
    const window = whole ? [0, last] : [Math.max(0, t - horizon), t + 2 * horizon];
    const line = { type: "line", x0: t, x1: t, yref: "paper", y0: 0, y1: 1, line: { color: variable("--soft"), width: 1, dash: "dot" } };
    this.plot(".trajectory", traces, layout("environment steps", plain(tree.names[d]), { shapes: [line], xaxis: { range: window }, uirevision: `${d}${whole}` }));
  }

  drawPlans(t) {
    const { tree } = this, a = this.chosen(".action"), found = tree.searches[this.at], traces = [];
    if (found) found.actions.forEach((candidate, c) => traces.push({ type: "scatter", mode: "lines", x: candidate[a].map((_, k) => t + k), y: candidate[a], name: `rejected: ${found.ranks[c]}`, line: { color: variable("--soft"), width: 1, dash: DASHES[c % 4] }, opacity: 0.75, showlegend: false }));
    if (this.plans) { const steps = range(this.plans.shape[1]); traces.push({ type: "scatter", mode: "lines", x: steps.map((k) => t + k), y: steps.map((k) => this.plans.value(this.at, k, a)), name: "planned", line: { color: colour(0), width: 2.2, shape: "hv" } }); }
    const steps = range(Math.min(this.expected.shape[1] - 1, tree.rewards.length - t));
    traces.push({ type: "scatter", mode: "lines", x: steps.map((k) => t + k), y: steps.map((k) => tree.actions[a][t + k]), name: "executed", line: { color: colour(1), width: 1.8, shape: "hv" } });
    this.plot(".plans", traces, layout("environment steps", `action ${a}`));
  }

  drawCandidates() {
    const { tree, at } = this, found = tree.searches[at];
    if (!found) return;
    const members = [tree.member_values?.[at] ?? [], ...found.ranks.map((_, c) => tree.rejected_members?.[at][c] ?? [])];
    const ranks = found.ranks.map((rank) => ({ "upper quartile": "75 %", "lower quartile": "25 %" })[rank] ?? rank), labels = ["plan", ...ranks], dots = members.flatMap((values, i) => values.map((value, p) => [labels[i], value, tree.members?.all[p] ?? null]));
    const hues = dots.map((dot) => (dot[2] === null ? faded(colour(0), 0.5) : faded(colour(2 + dot[2]), 0.75)));
    this.plot(".candidates", [
      { type: "scatter", mode: "markers", x: dots.map((dot) => dot[0]), y: dots.map((dot) => dot[1]), name: tree.members ? "each particle, in the colour of its member" : "each particle", marker: { color: hues, size: 6 },
        text: dots.map((dot) => (dot[2] === null ? "particle" : `member ${dot[2]}`)), hovertemplate: "%{y:.4g}<extra>%{text}</extra>" },
      { type: "scatter", mode: "markers", x: ranks, y: found.values, name: "as the search saw it", marker: { color: colour(1), size: 9, symbol: "diamond" } },
    ], layout("", "imagined return", { xaxis: { type: "category", categoryarray: labels, categoryorder: "array" } }));
  }

  drawSearch() {
    const found = this.tree.searches[this.at];
    if (!found) return;
    const x = found.quantiles.map((_, i) => i + 1), column = (i) => found.quantiles.map((row) => row[i]), hue = colour(0), common = { type: "scatter", mode: "lines+markers", x };
    this.plot(".search", [
      { ...common, mode: "lines", y: column(1), line: { width: 0 }, hoverinfo: "skip", showlegend: false },
      { ...common, mode: "lines", y: column(3), line: { width: 0 }, fill: "tonexty", fillcolor: faded(hue, 0.2), name: "middle half", hoverinfo: "skip" },
      { ...common, y: column(2), name: "median", line: { color: hue, width: 2 } },
      { ...common, y: column(4), name: "best", line: { color: colour(1), width: 2 } },
    ], layout("iteration", "imagined return", { xaxis: { dtick: Math.max(1, Math.ceil(x.length / 10)) } }));
  }

  drawTargets() {
    const found = this.tree.horizons;
    if (!found) return;
    const [mean, std, weight] = [found.mean, found.std, found.weight].map((rows) => rows[this.at]), x = range(mean.length);
    this.plot(".targets", [
      { type: "bar", x, y: weight, name: "weight in the target", yaxis: "y2", marker: { color: faded(colour(1), 0.35) }, hovertemplate: "%{y:.3f}<extra>weight</extra>" },
      { type: "scatter", mode: "markers", x, y: mean, name: "candidate, with its std", marker: { color: colour(0), size: 8 }, error_y: { type: "data", array: std, color: colour(0) } },
    ], layout("horizon (imagined steps)", "target", { xaxis: { dtick: 1 }, yaxis2: { overlaying: "y", side: "right", range: [0, 1], tickmode: "linear", tick0: 0, dtick: 0.5, showgrid: false, zeroline: false, automargin: true, title: { text: "weight", standoff: 6 } } }));
  }

  drawHorizon() {
    const traces = [["planned", "of the plan", 0], ["expected", "of the executed actions", 1]].filter(([name]) => this[name]).map(([name, label, i]) => ({
      type: "scatter", mode: "lines", name: label, line: { color: colour(i), width: 2 }, x: range(this[name].shape[1]), y: range(this[name].shape[1]).map((k) => this.disagreement(this[name], k)),
    }));
    this.plot(".horizon", traces, layout("steps ahead", "std of particles", { yaxis: { rangemode: "tozero" } }));
  }

  disagreement(fan, k) {
    const [, , count, columns] = fan.shape;
    const variances = range(columns).map((d) => {
      const values = range(count).map((p) => fan.value(this.at, k, p, d)), mean = values.reduce((a, b) => a + b, 0) / count;
      return values.reduce((a, b) => a + (b - mean) ** 2, 0) / count / this.std[d] ** 2;
    });
    return Math.sqrt(variances.reduce((a, b) => a + b, 0) / columns);
  }

  drawNearest() {
    const rows = this.tree.neighbours[this.at], place = this.root.querySelector(".nearest");
    const table = document.createElement("table");
    for (const [tag, cells] of [["th", ["episode", "step", "distance", "reward"]], ...rows.map((row) => ["td", row])]) {
      const line = table.insertRow();
      for (const cell of cells) { const made = document.createElement(tag); made.textContent = cell; line.append(made); }
    }
    place.replaceChildren(rows.length ? table : "The run has no recorded data.");
  }

  explain(t) {
    const { tree, at } = this, found = tree.searches[at], action = tree.actions.map((row) => short(row[t])).join(", ");
    const parts = [`At step ${t} the agent executed the action (${action}).`];
    if (found) {
      parts.push(`It compared ${found.count} candidates. The best promised a return of ${short(found.values[0])}, the median ${short(found.values[2])}, the worst ${short(found.values[4])}.`);
      const members = tree.member_values?.[at];
      if (members && members.length > 1) {
        const mean = members.reduce((a, b) => a + b, 0) / members.length, std = Math.sqrt(members.reduce((a, b) => a + (b - mean) ** 2, 0) / members.length);
        parts.push(`For the plan the particles predict ${short(mean)} on average, with a standard deviation of ${short(std)}.`);
        if (found.values[0] - found.values[2] < std) parts.push("This is more than what separates the best candidate from the median: the choice is uncertain.");
      }
    } else parts.push("Its policy chose it; the plan that is shown is what the policy does in imagination.");
    const used = tree.horizons?.weight[at].slice(1).reduce((a, b) => a + b, 0);
    if (used !== undefined) parts.push(`In the target of this step the horizons that use the model have a weight of ${short(used)}.`);
    const near = tree.neighbours[at][0];
    if (near) parts.push(`The nearest step in the data is step ${near[1]} of episode ${near[0]}, at a distance of ${short(near[2])}${near[2] > 1 ? ": the model has seen little like this" : ""}.`);
    this.root.querySelector(".why").textContent = parts.join(" ");
  }

  drawAccuracy() {
    const found = this.tree.accuracy, steps = found.mse.map((_, k) => k + 1), hue = colour(0), line = { type: "scatter", mode: "lines" };
    this.plot(".errors", [
      { ...line, x: steps, y: found.mse.map(Math.sqrt), name: "error (root mean square)", line: { color: hue, width: 2.2 } },
      { ...line, x: steps, y: found.std, name: "std of particles", line: { color: colour(1), width: 2.2 } },
    ], layout("steps predicted ahead", "units of the std", { yaxis: { rangemode: "tozero" } }));
    const ends = Object.entries(found.shares), levels = [0, ...found.levels];
    this.plot(".calibration", [
      { ...line, x: [0, 1], y: [0, 1], name: "calibrated", line: { color: variable("--soft"), width: 1, dash: "dash" } },
      ...ends.map(([k, shares], i) => ({ ...line, mode: "lines+markers", x: levels, y: [0, ...shares], name: `${k} step${k === "1" ? "" : "s"} ahead`, line: { color: colour(i), width: 2 } })),
    ], layout("nominal share", "share inside", { xaxis: { range: [0, 1] }, yaxis: { range: [0, 1.02] } }));
    const mode = found.starts.length < 20 ? "lines+markers" : "lines";
    const over = Object.entries(found.over_time).flatMap(([k, one], i) => [
      { ...line, mode, x: found.starts, y: one.error, name: `error, ${k} ahead`, line: { color: colour(i), width: 1.8 } },
      { ...line, mode, x: found.starts, y: one.std, name: `std, ${k} ahead`, line: { color: colour(i), width: 1.4, dash: "dot" } },
    ]);
    this.plot(".disagreement", over, layout("step of the episode", "units of the std", { yaxis: { rangemode: "tozero" } }));
  }
}

// The page
const believed = [...document.querySelectorAll("[data-belief]")].map((root) => new Believed(root, data.beliefs[root.dataset.belief]));

function drawAll() {
  drawCurves(); drawTimes(); drawMeasurements();
  for (const one of believed) one.drawAll();
}

const system = window.matchMedia("(prefers-color-scheme: dark)");
const setTheme = (dark) => { document.documentElement.dataset.theme = dark ? "dark" : "light"; drawAll(); };
const measured = document.getElementById("measured");
if (measured) {
  const names = [...new Set(data.diagnostics.flatMap((run) => Object.keys(run.columns)))];
  for (const name of names) measured.append(new Option(name, name));
  measured.addEventListener("change", drawMeasurements);
}
document.getElementById("view")?.addEventListener("change", drawCurves);
document.getElementById("theme").addEventListener("click", () => setTheme(!isDark()));
system.addEventListener("change", (event) => setTheme(event.matches));
setTheme(system.matches);
document.documentElement.dataset.ready = "yes";

// A page that follows runs: it is fetched again, and everything but the controls is replaced.
const parts = ["counts", "notes", "progress", "results", "hints", "settings", "time-table", "verdicts"];
async function follow() {
  try {
    const fresh = new DOMParser().parseFromString(await (await fetch("/")).text(), "text/html");
    const sections = (page) => [...page.querySelectorAll("section, [data-panel]")].map((one) => one.id || one.dataset.panel).join();
    if (sections(fresh) !== sections(document)) { location.reload(); return; }
    data = JSON.parse(fresh.getElementById("data").textContent);
    for (const id of parts) document.getElementById(id)?.replaceWith(document.adoptNode(fresh.getElementById(id)));
    drawCurves(); drawTimes(); drawMeasurements();
    document.getElementById("counts").append(`, at ${new Date().toLocaleTimeString()}`);
  } catch {
    const said = document.getElementById("counts");
    if (!said.textContent.includes("no answer")) said.append("; no answer: is `foretell watch` still running?");
  }
}
if (document.documentElement.dataset.live) setInterval(follow, 5000);
