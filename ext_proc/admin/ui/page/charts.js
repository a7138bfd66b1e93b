// Lines over time by uPlot. Each has the same values as a table, which is written while it is open.

import { make } from "./dom.js";

const POINTS = 300;
const HEIGHT = 180;
const ROWS = 10; // of the table: the last looks
const INKS = ["--ink-1", "--ink-2", "--ink-3", "--ink-4", "--ink-5", "--ink-6"];

const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString("en-GB");

export class Chart {
  // `show` writes a value for people; `top` ends the axis at a fixed value, `empty` where no value is over 0.
  constructor(parent, title, show, { top = null, empty = 1 } = {}) {
    this.show = show;
    this.top = top;
    this.empty = empty;
    this.times = [];
    this.lines = new Map(); // label -> values
    const figure = make("figure");
    figure.append(make("figcaption", title));
    this.plot = make("div", "", "plot");
    this.plot.setAttribute("aria-hidden", "true");
    this.details = make("details");
    this.details.append(make("summary", "As a table"));
    this.table = make("table");
    this.table.setAttribute("aria-label", title);
    this.details.append(this.table);
    this.details.addEventListener("toggle", () => this.tell());
    figure.append(this.plot, this.details);
    parent.append(figure);
    new ResizeObserver(() => this.resize()).observe(this.plot);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.build());
  }

  // One look: the values by label; a label that is new has no earlier ones.
  add(time, values) {
    if (this.times.push(time) > POINTS) this.times.shift();
    let grown = false;
    for (const label of Object.keys(values))
      if (!this.lines.has(label)) {
        this.lines.set(label, new Array(this.times.length - 1).fill(null));
        grown = true;
      }
    for (const [label, line] of this.lines) {
      line.push(values[label] ?? null);
      if (line.length > POINTS) line.shift();
    }
    if (grown || !this.uplot) this.build();
    else if (!document.hidden) this.uplot.setData(this.data());
    this.tell();
  }

  data() {
    return [this.times, ...this.lines.values()];
  }

  build() {
    this.uplot?.destroy();
    this.uplot = null;
    if (!this.plot.clientWidth || !this.lines.size) return;
    const style = getComputedStyle(document.documentElement);
    const ink = (name) => style.getPropertyValue(name).trim();
    const axis = { stroke: ink("--quiet"), grid: { stroke: ink("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
    const series = [...this.lines.keys()].map((label, at) => ({
      label,
      stroke: ink(INKS[at % INKS.length]),
      width: 2,
      dash: at < INKS.length ? undefined : [6, 4],
      points: { show: false },
      value: (_, value) => this.show(value),
    }));
    this.uplot = new uPlot(
      {
        width: this.plot.clientWidth,
        height: HEIGHT,
        cursor: { drag: { x: false, y: false }, points: { size: 6 } },
        scales: { y: { range: (_, least, most) => [Math.min(0, least ?? 0), this.top ?? (most > 0 ? most * 1.1 : this.empty)] } },
        axes: [{ ...axis, space: 90, values: (_, times) => times.map(clock) }, { ...axis, size: 62, values: (_, values) => values.map((value) => this.show(value)) }],
        series: [{ value: (_, time) => (time === null ? "" : clock(time)) }, ...series],
      },
      this.data(),
      this.plot,
    );
  }

  resize() {
    if (!this.uplot) this.build();
    else if (this.plot.clientWidth) this.uplot.setSize({ width: this.plot.clientWidth, height: HEIGHT });
  }

  tell() {
    if (!this.details.open) return;
    this.table.replaceChildren();
    const labels = [...this.lines.keys()];
    const head = this.table.createTHead().insertRow();
    for (const label of ["time", ...labels]) {
      const cell = make("th", label);
      cell.scope = "col";
      head.append(cell);
    }
    const body = this.table.createTBody();
    for (let at = this.times.length - 1; at >= Math.max(0, this.times.length - ROWS); at--) {
      const row = body.insertRow();
      row.insertCell().textContent = clock(this.times[at]);
      for (const label of labels) row.insertCell().textContent = this.show(this.lines.get(label)[at]);
    }
  }
}
