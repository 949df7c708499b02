"use strict";

const payload = JSON.parse(document.getElementById("payload").textContent);

/* ---- Theme: colors are those of the style sheet, of the page's theme or of another one. ---- */

const COLORS = ["paper", "ink", "quiet", "rule", "training", "validation", "accent", "faint", "dense"];
const themeButton = document.getElementById("theme");
const prefersDark = matchMedia("(prefers-color-scheme: dark)");
let dark = prefersDark.matches;

function colorsOf(scheme) {
  const probe = document.createElement("span");
  probe.style.colorScheme = scheme;
  document.body.append(probe);
  const found = {};
  for (const name of COLORS) {
    probe.style.color = `var(--${name})`;
    found[name] = getComputedStyle(probe).color;
  }
  probe.remove();
  return found;
}

const themeColors = () => colorsOf(dark ? "dark" : "light");

function setTheme(toDark) {
  dark = toDark;
  document.documentElement.style.colorScheme = dark ? "dark" : "light";
  themeButton.textContent = dark ? "Light theme" : "Dark theme";
}

/* ---- Plots: each kind turns its data into traces and axes of Plotly. ---- */

const kinds = {
  lines(plot, colors) {
    const many = plot.lines.length > 8;
    const traces = plot.lines.map((line) => ({
      type: "scatter",
      mode: line.marks ? "lines+markers" : "lines",
      name: line.name,
      x: line.x,
      y: line.y,
      line: { color: colors[line.role], width: many ? 1.2 : 2 },
      marker: { size: 5 },
      opacity: many ? 0.7 : 1,
      showlegend: !many,
      structure: line.structure,
    }));
    if (plot.lines.length > 1 && plot.lines.every((line) => line.structure)) {
      traces.forEach((trace) => { trace.showlegend = false; });
    }
    if (plot.level) {
      const [value, name] = plot.level;
      const ends = [Math.min(...plot.lines.map((line) => line.x[0])), Math.max(...plot.lines.map((line) => line.x.at(-1)))];
      traces.push({ type: "scatter", mode: "lines", name, x: ends, y: [value, value], hoverinfo: "skip", line: { color: colors.validation, dash: "dash", width: 1.5 } });
    }
    const layout = { showlegend: traces.filter((trace) => trace.showlegend !== false).length > 0 && traces.length > 1 };
    return { traces, layout, x: { title: { text: plot.x_label } }, y: { title: { text: plot.y_label }, ...(plot.log_y && { type: "log", tickformat: "~g", dtick: "D2" }) } };
  },

  parity(plot, colors) {
    const ends = [plot.low, plot.high];
    const traces = [{ type: "scatter", mode: "lines", x: ends, y: ends, hoverinfo: "skip", showlegend: false, line: { color: colors.quiet, width: 1 } }];
    if (plot.cells.length) traces.push(density(plot, colors));
    if (plot.points.length) {
      traces.push({ type: "scatter", mode: "markers", name: plot.members, x: plot.points.map((point) => point[0]), y: plot.points.map((point) => point[1]),
        marker: { color: colors.training, size: 5, opacity: 0.5 }, hoverinfo: "skip" }); /* the worst lie on top of these and take the click */
    }
    traces.push({ type: "scatter", mode: "markers", name: "largest errors", x: plot.worst.map((one) => one[0]), y: plot.worst.map((one) => one[1]),
      structures: plot.worst.map((one) => one[2]), text: plot.worst.map((one) => one[2]),
      marker: { color: colors.validation, size: 8, symbol: "circle-open", line: { width: 1.8 }, opacity: plot.worst.map((_, rank) => (rank < 10 ? 1 : 0.4)) },
      hovertemplate: "%{text}<br>label %{x}<br>prediction %{y}<extra>click to see it</extra>" });
    const axis = { range: ends, constrain: "domain" };
    return {
      traces,
      layout: { showlegend: plot.points.length > 0, hovermode: "closest" },
      x: { ...axis, title: { text: `${plot.quantity}, label [${plot.unit}]` } },
      y: { ...axis, title: { text: `${plot.quantity}, prediction [${plot.unit}]` }, scaleanchor: "x" },
    };
  },

  bars(plot, colors) {
    const trace = { type: "bar", x: plot.groups, y: plot.values, marker: { color: colors.training }, showlegend: false,
      error_y: { type: "data", array: plot.errors.map((error) => error ?? 0), color: colors.ink, thickness: 1, width: 3 } };
    const shapes = plot.overall === null ? [] : [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: plot.overall, y1: plot.overall, line: { color: colors.validation, dash: "dash", width: 1.5 } }];
    return { traces: [trace], layout: { shapes, bargap: 0.3 }, x: { title: { text: plot.x_label }, type: "category", showgrid: false }, y: { title: { text: plot.y_label }, rangemode: "tozero" } };
  },
};

function density(plot, colors) {
  const z = Array.from({ length: plot.bins }, () => new Array(plot.bins).fill(null));
  let most = 1;
  for (const [column, row, count] of plot.cells) {
    z[row][column] = Math.log10(count);
    most = Math.max(most, count);
  }
  const decades = Array.from({ length: Math.floor(Math.log10(most)) + 1 }, (_, power) => power);
  const step = (plot.high - plot.low) / plot.bins;
  return {
    type: "heatmap", z, x0: plot.low + step / 2, dx: step, y0: plot.low + step / 2, dy: step, hoverinfo: "skip", zmin: 0, zmax: Math.max(Math.log10(most), 1),
    colorscale: [[0, mixed(colors.training, colors.paper, 0.35)], [0.5, colors.training], [1, colors.dense]],
    colorbar: { title: { text: "per cell", side: "right" }, thickness: 10, outlinewidth: 0, tickvals: decades, ticktext: decades.map((power) => (10 ** power).toLocaleString("en")) },
  };
}

function mixed(one, other, share) {
  const [a, b] = [one, other].map((color) => color.match(/[\d.]+/g).map(Number));
  return `rgb(${[0, 1, 2].map((place) => Math.round(share * a[place] + (1 - share) * b[place])).join(",")})`;
}

function figureOf(plot, colors) {
  const { traces, layout, x, y } = kinds[plot.kind](plot, colors);
  const axis = { gridcolor: colors.rule, zeroline: false, linecolor: colors.quiet, ticks: "outside", tickcolor: colors.quiet, automargin: true, exponentformat: "power", minorloglabels: "complete" };
  return {
    data: traces,
    layout: {
      paper_bgcolor: colors.paper,
      plot_bgcolor: colors.paper,
      uirevision: "kept" /* a change of the theme leaves the axes as they were chosen */,
      font: { color: colors.ink, family: "system-ui, sans-serif", size: 13 },
      margin: { l: 60, r: 15, t: 30, b: 45 },
      legend: { orientation: "h", x: 0, y: 1, yanchor: "bottom" },
      hoverlabel: { bgcolor: colors.paper, bordercolor: colors.quiet, font: { color: colors.ink } },
      xaxis: { ...axis, ...x, title: { ...x.title, standoff: 6 } },
      yaxis: { ...axis, ...y, title: { ...y.title, standoff: 6 } },
      ...layout,
    },
  };
}

async function draw(figure) {
  const canvas = figure.querySelector(".canvas");
  const plot = payload.plots[figure.dataset.plot];
  const { data, layout } = figureOf(plot, themeColors());
  await Plotly.react(canvas, data, layout, { displayModeBar: false, responsive: true });
  canvas.removeAllListeners("plotly_click");
  canvas.on("plotly_click", ({ points }) => {
    const chosen = points.map(({ data, pointNumber }) => data.structures?.[pointNumber] ?? data.structure).find(Boolean);
    if (chosen && plot.viewer) show(plot.viewer, chosen);
  });
}

/* For papers: always in the light theme, in the size and with the axes on the page; PNG with three times its pixels. */
function save(figure, format) {
  const plot = payload.plots[figure.dataset.plot];
  const canvas = figure.querySelector(".canvas");
  const size = { width: canvas.clientWidth, height: canvas.clientHeight };
  const { data, layout } = figureOf(plot, colorsOf("light"));
  for (const axis of ["xaxis", "yaxis"]) layout[axis].range = canvas.layout[axis].range;
  return Plotly.downloadImage({ data, layout }, { format, filename: plot.id, ...size, scale: format === "png" ? 3 : 1 });
}

const plotActions = {
  reset: (figure) => { Plotly.purge(figure.querySelector(".canvas")); return draw(figure); },
  svg: (figure) => save(figure, "svg"),
  png: (figure) => save(figure, "png"),
};

/* ---- Viewers ---- */

const SPEED_MS = 120;

class View {
  constructor(figure) {
    this.figure = figure;
    this.structures = payload.viewers[figure.dataset.viewer];
    this.scene = figure.querySelector(".scene");
    this.said = figure.querySelector(".shown");
    this.bar = figure.querySelector(".buttons");
    this.frame = 0;
    this.timer = null;
    this.addControls();
    this.scene.addEventListener("keydown", (event) => this.onKey(event));
    /* The page scrolls over a scene; only one that was chosen takes the wheel. */
    this.scene.addEventListener("wheel", (event) => { if (!this.scene.contains(document.activeElement)) event.stopPropagation(); }, { capture: true });
  }

  addControls() {
    const button = (text, label, act) => {
      const made = document.createElement("button");
      made.type = "button";
      made.textContent = text;
      made.setAttribute("aria-label", label);
      made.addEventListener("click", act);
      this.bar.append(made);
      return made;
    };
    const structures = Object.values(this.structures);
    if (structures.some((one) => one.frames.length > 1)) {
      this.playing = button("Play", "Play the trajectory", () => this.play(this.timer === null));
      button("‹", "Previous frame", () => this.step(-1));
      button("›", "Next frame", () => this.step(1));
      this.slider = Object.assign(document.createElement("input"), { type: "range", min: 0, value: 0 });
      this.slider.setAttribute("aria-label", "Frame");
      this.slider.addEventListener("input", () => this.setFrame(Number(this.slider.value)));
      this.bar.append(this.slider);
    }
    if (structures.some((one) => one.label)) {
      this.arrows = document.createElement("select");
      this.arrows.setAttribute("aria-label", "Arrows");
      for (const [value, text] of [["error", "Arrows: error of forces"], ["label", "Arrows: true forces"], ["prediction", "Arrows: predicted forces"], ["none", "No arrows"]]) {
        this.arrows.append(new Option(text, value));
      }
      this.arrows.addEventListener("change", () => this.paint());
      this.bar.append(this.arrows);
    }
    for (const [text, label, act] of [["←", "Turn left", () => this.turn("y", -15)], ["→", "Turn right", () => this.turn("y", 15)], ["↑", "Turn up", () => this.turn("x", -15)],
      ["↓", "Turn down", () => this.turn("x", 15)], ["+", "Zoom in", () => this.zoom(1.2)], ["−", "Zoom out", () => this.zoom(1 / 1.2)], ["Reset", "Reset the view", () => this.reset()]]) {
      button(text, label, act);
    }
  }

  onKey(event) {
    const keys = {
      ArrowLeft: () => this.turn("y", -15), ArrowRight: () => this.turn("y", 15), ArrowUp: () => this.turn("x", -15), ArrowDown: () => this.turn("x", 15),
      "+": () => this.zoom(1.2), "-": () => this.zoom(1 / 1.2), 0: () => this.reset(),
      " ": () => this.playing && this.play(this.timer === null), ",": () => this.step(-1), ".": () => this.step(1),
    };
    if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in keys)) return;
    event.preventDefault();
    keys[event.key]();
  }

  /* Made when first needed: the library and a scene take their time. */
  begin() {
    if (this.viewer || this.failed) return Boolean(this.viewer);
    if (!document.createElement("canvas").getContext("webgl2")) {
      this.failed = true;
      this.said.textContent = "This browser shows no 3D graphics (WebGL 2), which structures need.";
      return false;
    }
    loadViewing();
    this.viewer = $3Dmol.createViewer(this.scene, { backgroundColor: themeColors().paper, antialias: true });
    new ResizeObserver(() => this.viewer.resize()).observe(this.scene);
    return true;
  }

  show(key) {
    this.play(false);
    this.key = key;
    this.structure = this.structures[key];
    this.frame = 0;
    this.figure.dataset.shown = key;
    if (this.slider) { this.slider.max = this.structure.frames.length - 1; this.slider.value = 0; }
    for (const button of document.querySelectorAll(`button.show[data-viewer="${this.figure.dataset.viewer}"]`)) {
      button.setAttribute("aria-pressed", String(button.dataset.structure === key));
    }
    if (!this.begin()) return;
    this.viewer.removeAllModels();
    const { symbols, frames } = this.structure;
    const text = frames.map((xyz) => `${symbols.length}\n\n${symbols.map((symbol, atom) => `${symbol} ${xyz.slice(3 * atom, 3 * atom + 3).join(" ")}`).join("\n")}`).join("\n");
    this.model = this.viewer.addModelsAsFrames(text, "xyz");
    this.viewer.setStyle({}, { sphere: { scale: 0.45, colorscheme: "Jmol" } });
    this.viewer.setHoverable({}, true, (atom) => this.name(atom), () => { this.viewer.removeAllLabels(); this.viewer.render(); });
    this.reset();
  }

  paint() {
    if (!this.viewer) return;
    this.viewer.setBackgroundColor(themeColors().paper);
    this.viewer.removeAllShapes();
    this.drawCell();
    const longest = this.drawArrows();
    this.said.textContent = this.structure.texts[this.frame] + (longest ? `; longest arrow ${longest.toFixed(3)} eV/Å` : "");
    this.viewer.render();
  }

  drawCell() {
    const { cell } = this.structure;
    if (!cell) return;
    const rows = [0, 1, 2].map((row) => cell.slice(3 * row, 3 * row + 3));
    const corner = (signs) => [0, 1, 2].map((axis) => rows.reduce((sum, row, index) => sum + signs[index] * row[axis], 0));
    const point = ([x, y, z]) => ({ x, y, z });
    const color = hex(themeColors().quiet);
    for (let first = 0; first < 3; first++) {
      for (const [one, other] of [[0, 0], [0, 1], [1, 0], [1, 1]]) {
        const start = [0, 0, 0];
        [start[(first + 1) % 3], start[(first + 2) % 3]] = [one, other];
        const end = [...start];
        end[first] = 1;
        this.viewer.addLine({ start: point(corner(start)), end: point(corner(end)), color });
      }
    }
  }

  /* Arrows are scaled such that the longest has 3 Å, to come out of its sphere; returns what that stands for. */
  drawArrows() {
    const { label, prediction, frames } = this.structure;
    const kind = this.arrows?.value;
    if (!label || kind === "none") return 0;
    const values = { label, prediction, error: prediction.map((value, place) => value - label[place]) }[kind];
    const lengths = Array.from({ length: values.length / 3 }, (_, atom) => Math.hypot(...values.slice(3 * atom, 3 * atom + 3)));
    const longest = Math.max(...lengths);
    const color = hex(themeColors()[{ label: "training", prediction: "accent", error: "validation" }[kind]]);
    lengths.forEach((length, atom) => {
      if (length < 0.04 * longest || length === 0) return;
      const [x, y, z] = frames[0].slice(3 * atom, 3 * atom + 3);
      const [dx, dy, dz] = values.slice(3 * atom, 3 * atom + 3).map((value) => (3 * value) / longest);
      this.viewer.addArrow({ start: { x, y, z }, end: { x: x + dx, y: y + dy, z: z + dz }, radius: 0.12, mid: 0.75, color });
    });
    return longest;
  }

  name(atom) {
    const colors = themeColors();
    this.viewer.removeAllLabels();
    this.viewer.addLabel(`${atom.elem} ${atom.index}`, { position: atom, fontSize: 13, fontColor: hex(colors.ink), backgroundColor: hex(colors.paper), backgroundOpacity: 0.9 });
    this.viewer.render();
  }

  async setFrame(frame) {
    if (!this.viewer) return;
    const count = this.structure.frames.length;
    this.frame = (frame + count) % count;
    this.slider.value = this.frame;
    await this.viewer.setFrame(this.frame);
    this.paint();
  }

  step(by) { if (this.slider) { this.play(false); this.setFrame(this.frame + by); } }

  play(on) {
    clearInterval(this.timer);
    this.timer = on ? setInterval(() => this.setFrame(this.frame + 1), SPEED_MS) : null;
    if (!this.playing) return;
    this.playing.textContent = on ? "Pause" : "Play";
    this.playing.setAttribute("aria-label", on ? "Pause the trajectory" : "Play the trajectory");
  }

  turn(axis, angle) { if (this.viewer) { this.viewer.rotate(angle, axis); this.viewer.render(); } }

  zoom(factor) { if (this.viewer) { this.viewer.zoom(factor); this.viewer.render(); } }

  /* Slabs are looked at from the side, a little from above; the cell, often half empty, may go beyond the scene. */
  reset() {
    if (!this.viewer) return;
    this.viewer.removeAllShapes();
    this.viewer.setView([0, 0, 0, 0, 0, 0, 0, 1]);
    this.viewer.zoomTo();
    this.viewer.zoom(0.85);
    this.viewer.rotate(-75, "x");
    this.paint();
  }
}

/* The library lies in the page as text; as a script of the page it runs at once. */
function loadViewing() {
  const text = document.getElementById("viewing");
  if (!text) return;
  document.head.append(Object.assign(document.createElement("script"), { textContent: text.textContent }));
  text.remove();
}

function hex(color) {
  return `#${color.match(/[\d.]+/g).slice(0, 3).map((part) => Math.round(Number(part)).toString(16).padStart(2, "0")).join("")}`;
}

const views = Object.fromEntries([...document.querySelectorAll("figure.viewer")].map((figure) => [figure.dataset.viewer, new View(figure)]));

function show(viewer, key) {
  views[viewer].show(key);
  views[viewer].figure.scrollIntoView({ block: "nearest" });
}

/* ---- What the page does ---- */

const figures = [...document.querySelectorAll("figure.plot")];

const isInSight = (figure) => figure.getBoundingClientRect().top < innerHeight;
const pause = () => new Promise((go) => setTimeout(go, 0));

/* Those in sight first; between the others the page can answer. What is folded has no size and is left out. */
async function drawAll() {
  const drawn = figures.filter((figure) => figure.offsetParent !== null);
  await Promise.all(drawn.filter(isInSight).map(draw));
  note("firstDrawnAfterMs");
  for (const figure of drawn.filter((one) => !isInSight(one))) {
    await pause();
    await draw(figure);
  }
  note("drawnAfterMs");
}

/* When the page was ready, in milliseconds since it was opened; a later drawing does not count. */
function note(what) {
  document.documentElement.dataset[what] ??= Math.round(performance.now());
}

function changeTheme(toDark) {
  setTheme(toDark);
  Object.values(views).forEach((view) => view.paint());
  return drawAll();
}

for (const figure of figures) {
  for (const button of figure.querySelectorAll("button[data-action]")) {
    button.addEventListener("click", () => plotActions[button.dataset.action](figure));
  }
}
for (const button of document.querySelectorAll("button.show")) {
  button.addEventListener("click", () => show(button.dataset.viewer, button.dataset.structure));
}
/* What is folded has no size: it is drawn when its heading is opened. */
for (const details of document.querySelectorAll("details")) {
  details.addEventListener("toggle", () => details.open && details.querySelectorAll("figure.plot").forEach(draw));
}
const inSight = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    const view = views[target.dataset.viewer];
    if (isIntersecting && !view.key) view.show(document.querySelector(`button.show[data-viewer="${target.dataset.viewer}"]`).dataset.structure);
  }
});
Object.values(views).forEach((view) => inSight.observe(view.figure));
themeButton.addEventListener("click", () => changeTheme(!dark));
prefersDark.addEventListener("change", (change) => changeTheme(change.matches));

setTheme(dark);
drawAll();
