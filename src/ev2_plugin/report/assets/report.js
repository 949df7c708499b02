"use strict";

const payload = JSON.parse(document.getElementById("payload").textContent);

/* Colors: names of the style sheet, in the theme of the page or of another one. */

function colorsOf(scheme) {
  const probe = document.createElement("span");
  probe.style.colorScheme = scheme;
  document.body.append(probe);
  const names = ["paper", "ink", "quiet", "rule", "training", "validation", "accent", "faint", "dense"];
  const found = {};
  for (const name of names) {
    probe.style.color = `var(--${name})`;
    found[name] = getComputedStyle(probe).color;
  }
  probe.remove();
  return found;
}

const themeButton = document.getElementById("theme");
const prefersDark = matchMedia("(prefers-color-scheme: dark)");
let dark = prefersDark.matches;

function setTheme(toDark) {
  dark = toDark;
  document.documentElement.style.colorScheme = dark ? "dark" : "light";
  themeButton.textContent = dark ? "Light theme" : "Dark theme";
}

function themeColors() {
  return colorsOf(dark ? "dark" : "light");
}

/* Plots: each kind turns its data into traces and axes of Plotly. */

const kinds = {
  lines(plot, colors) {
    const traces = plot.lines.map((line) => ({
      type: "scatter",
      mode: line.marks ? "lines+markers" : "lines",
      name: line.name,
      x: line.x,
      y: line.y,
      line: { color: colors[line.role], width: 2 },
      marker: { size: 5 },
    }));
    const shapes = [];
    if (plot.level) {
      const [value, name] = plot.level;
      const ends = [Math.min(...plot.lines.map((line) => line.x[0])), Math.max(...plot.lines.map((line) => line.x.at(-1)))];
      traces.push({ type: "scatter", mode: "lines", name, x: ends, y: [value, value], line: { color: colors.quiet, dash: "dash", width: 1.5 } });
    }
    return { traces, layout: { shapes, showlegend: traces.length > 1 }, y: { type: plot.log_y ? "log" : "linear" } };
  },
};

function figureOf(plot, colors) {
  const { traces, layout, x, y } = kinds[plot.kind](plot, colors);
  const axis = { gridcolor: colors.rule, zeroline: false, linecolor: colors.quiet, ticks: "outside", tickcolor: colors.quiet, automargin: true, exponentformat: "power" };
  return {
    data: traces,
    layout: {
      paper_bgcolor: colors.paper,
      plot_bgcolor: colors.paper,
      font: { color: colors.ink, family: "system-ui, sans-serif", size: 13 },
      margin: { l: 60, r: 15, t: 30, b: 45 },
      legend: { orientation: "h", x: 0, y: 1, yanchor: "bottom", font: { color: colors.ink } },
      hoverlabel: { bgcolor: colors.paper, bordercolor: colors.rule, font: { color: colors.ink } },
      xaxis: { ...axis, title: { text: plot.x_label, standoff: 8 }, ...x },
      yaxis: { ...axis, title: { text: plot.y_label, standoff: 8 }, ...y },
      ...layout,
    },
  };
}

function draw(figure) {
  const canvas = figure.querySelector(".canvas");
  const { data, layout } = figureOf(payload.plots[figure.dataset.plot], themeColors());
  return Plotly.react(canvas, data, layout, { displayModeBar: false, responsive: true });
}

const actions = {
  reset(figure) {
    Plotly.purge(figure.querySelector(".canvas"));
    return draw(figure);
  },
  svg: (figure) => save(figure, "svg"),
  png: (figure) => save(figure, "png"),
};

/* For papers: always in the light theme, in the size on the page; PNG with three times its pixels. */
function save(figure, format) {
  const plot = payload.plots[figure.dataset.plot];
  const canvas = figure.querySelector(".canvas");
  const size = { width: canvas.clientWidth, height: canvas.clientHeight };
  const { data, layout } = figureOf(plot, colorsOf("light"));
  return Plotly.downloadImage({ data, layout }, { format, filename: plot.id, ...size, scale: format === "png" ? 3 : 1 });
}

const figures = [...document.querySelectorAll("figure.plot")];

for (const figure of figures) {
  for (const button of figure.querySelectorAll("button[data-action]")) {
    button.addEventListener("click", () => actions[button.dataset.action](figure));
  }
}

/* A folded plot has no size: it is drawn when its heading is opened. */
for (const details of document.querySelectorAll("details")) {
  details.addEventListener("toggle", () => details.open && details.querySelectorAll("figure.plot").forEach(draw));
}

function drawAll() {
  return Promise.all(figures.filter((figure) => figure.offsetParent !== null).map(draw));
}

themeButton.addEventListener("click", () => { setTheme(!dark); drawAll(); });
prefersDark.addEventListener("change", (change) => { setTheme(change.matches); drawAll(); });

setTheme(dark);
drawAll().then(() => { document.documentElement.dataset.drawnAfterMs = Math.round(performance.now()); });
