// A table of any length of which only the rows in sight are elements.

import { make, say } from "./dom.js";

const ROW = 28; // pixels, as in style.css
const BEYOND = 6; // rows above and below those in sight

export class LongTable {
  // `cells(item)` gives the texts of a row.
  constructor(frame, table, cells) {
    this.frame = frame;
    this.cells = cells;
    this.items = [];
    this.table = table;
    this.columns = table.tHead.rows[0].cells;
    this.body = table.tBodies[0];
    this.above = make("tbody", "", "spacer");
    this.below = make("tbody", "", "spacer");
    for (const spacer of [this.above, this.below]) {
      spacer.setAttribute("aria-hidden", "true");
      spacer.insertRow().insertCell().colSpan = this.columns.length;
    }
    this.body.before(this.above);
    this.body.after(this.below);
    frame.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(frame);
  }

  show(items) {
    this.items = items;
    this.table.setAttribute("aria-rowcount", String(items.length + 1));
    this.draw();
  }

  draw() {
    const room = Math.ceil(this.frame.clientHeight / ROW) + 2 * BEYOND;
    const most = Math.max(0, this.items.length - room);
    const first = Math.min(most, Math.max(0, Math.floor(this.frame.scrollTop / ROW) - BEYOND));
    const shown = this.items.slice(first, first + room);
    height(this.above, first * ROW);
    height(this.below, (this.items.length - first - shown.length) * ROW);
    while (this.body.rows.length > shown.length) this.body.deleteRow(-1);
    shown.forEach((item, at) => {
      const row = this.body.rows[at] ?? this.body.insertRow();
      row.setAttribute("aria-rowindex", String(first + at + 2));
      this.cells(item).forEach((text, column) => {
        const cell = row.cells[column] ?? row.insertCell();
        cell.className = this.columns[column].className;
        cell.title = text;
        say(cell, text);
      });
    });
  }
}

function height(spacer, pixels) {
  spacer.rows[0].cells[0].style.height = `${pixels}px`;
  spacer.hidden = pixels === 0;
}
