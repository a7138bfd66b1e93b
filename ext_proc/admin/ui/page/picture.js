// The cache map drawn: a band for each node, a square for each model that it holds, a hollow one for each free place.

const SIZES = [16, 13, 11, 9, 7, 5, 4];
const WANTED_HEIGHT = 420;
const LABEL = 150;
const GAP = 8;
const MOST_FREE = 200; // squares of free room for one node

export class Picture {
  constructor(canvas, onPoint, onChoose) {
    this.canvas = canvas;
    this.onPoint = onPoint;
    this.onChoose = onChoose;
    this.bands = [];
    this.cursor = null;
    this.fits = () => true;
    canvas.addEventListener("pointermove", (event) => this.point(this.cellAt(event.offsetX, event.offsetY)));
    canvas.addEventListener("click", (event) => {
      this.point(this.cellAt(event.offsetX, event.offsetY));
      if (this.cursor) onChoose(this.cellOf(this.cursor)?.model);
    });
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("focus", () => this.draw());
    canvas.addEventListener("blur", () => this.draw());
    new ResizeObserver(() => this.draw()).observe(canvas.parentElement);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  // `fits(model, held, node)` says which squares stay bright.
  show(nodes, fits) {
    this.nodes = nodes;
    this.fits = fits;
    this.draw();
  }

  layout(width) {
    for (const size of SIZES) {
      const columns = Math.max(1, Math.floor((width - LABEL) / size));
      let y = 0;
      this.bands = this.nodes.map((node) => {
        const cells = [...node.holds].sort((one, other) => (one[0] < other[0] ? -1 : 1)).map(([model, held]) => ({ model, held }));
        const free = Math.min(MOST_FREE, Math.max(0, Math.floor(node.free ?? 0)));
        const lines = Math.max(Math.ceil((cells.length + free) / columns), Math.ceil(18 / size));
        const band = { node, cells, free, y, lines };
        y += lines * size + GAP;
        return band;
      });
      Object.assign(this, { size, columns, height: Math.max(y, 20) });
      if (y <= WANTED_HEIGHT) break;
    }
  }

  draw() {
    const frame = this.canvas.parentElement;
    const width = frame.clientWidth - 2 * parseFloat(getComputedStyle(frame).paddingLeft);
    if (!this.nodes || width <= 0) return;
    this.layout(width);
    const scale = devicePixelRatio || 1;
    this.canvas.width = width * scale;
    this.canvas.height = this.height * scale;
    this.canvas.style.width = `${width}px`;
    this.canvas.style.height = `${this.height}px`;
    const pen = this.canvas.getContext("2d");
    pen.scale(scale, scale);
    const style = getComputedStyle(document.documentElement);
    const ink = (name) => style.getPropertyValue(name).trim();
    const inks = { resident: ink("--resident"), loading: ink("--loading"), draining: ink("--draining"), failed: ink("--failed") };
    const [free, text, quiet, busy] = [ink("--free"), ink("--text"), ink("--quiet"), ink("--busy")];
    const { size, columns } = this;
    const side = size - (size > 5 ? 2 : 1);
    pen.textBaseline = "top";
    for (const { node, cells, free: room, y } of this.bands) {
      const dead = node.deadAt || node.away !== null;
      pen.font = "12px system-ui";
      pen.fillStyle = dead ? inks.failed : text;
      pen.fillText(shortened(pen, dead ? `✕ ${node.id}` : node.id, LABEL - 12), 0, y);
      cells.forEach(({ model, held }, at) => {
        const [left, top] = [LABEL + (at % columns) * size, y + Math.floor(at / columns) * size];
        pen.globalAlpha = this.fits(model, held, node) ? (dead ? 0.45 : 1) : 0.12;
        this.square(pen, held, left, top, side, inks, busy);
      });
      pen.globalAlpha = 1;
      pen.strokeStyle = free;
      pen.lineWidth = 1;
      for (let at = cells.length; at < cells.length + room; at++) {
        const [left, top] = [LABEL + (at % columns) * size, y + Math.floor(at / columns) * size];
        pen.strokeRect(left + 0.5, top + 0.5, side - 1, side - 1);
      }
      if (!cells.length && !room) {
        pen.fillStyle = quiet;
        pen.fillText("holds nothing that is known", LABEL, y);
      }
    }
    if (this.cursor && document.activeElement === this.canvas) {
      const { band, at } = this.cursor;
      const y = this.bands[band]?.y;
      if (y === undefined) return;
      pen.strokeStyle = text;
      pen.lineWidth = 2;
      pen.strokeRect(LABEL + (at % columns) * size - 1, y + Math.floor(at / columns) * size - 1, side + 2, side + 2);
    }
  }

  // States differ in form as well as in colour, where there is room for it.
  square(pen, held, left, top, side, inks, busy) {
    pen.fillStyle = inks[held.group];
    if (side < 7) {
      pen.fillRect(left, top, side, side);
      if (held.flying) {
        pen.fillStyle = busy;
        pen.fillRect(left + 1, top + 1, side - 2, side - 2);
      }
      return;
    }
    if (held.group === "loading") {
      pen.fillRect(left, top + side / 2, side, side / 2);
      pen.strokeStyle = inks.loading;
      pen.lineWidth = 1;
      pen.strokeRect(left + 0.5, top + 0.5, side - 1, side - 1);
    } else if (held.group === "draining") {
      pen.strokeStyle = inks.draining;
      pen.lineWidth = 2;
      pen.strokeRect(left + 1, top + 1, side - 2, side - 2);
    } else if (held.group === "failed") {
      pen.strokeStyle = inks.failed;
      pen.lineWidth = 2;
      pen.beginPath();
      pen.moveTo(left + 1, top + 1);
      pen.lineTo(left + side - 1, top + side - 1);
      pen.moveTo(left + side - 1, top + 1);
      pen.lineTo(left + 1, top + side - 1);
      pen.stroke();
    } else pen.fillRect(left, top, side, side);
    if (held.flying) {
      pen.fillStyle = busy;
      pen.fillRect(left + side / 2 - 2, top + side / 2 - 2, 4, 4);
    }
  }

  cellAt(x, y) {
    if (!this.bands.length || x < LABEL) return null;
    const band = this.bands.findLastIndex((each) => each.y <= y);
    if (band < 0) return null;
    const column = Math.floor((x - LABEL) / this.size);
    const at = Math.floor((y - this.bands[band].y) / this.size) * this.columns + column;
    return column < this.columns && this.cellOf({ band, at }) ? { band, at } : null;
  }

  // {node, model, held}; without a model it is free room.
  cellOf({ band, at }) {
    const of = this.bands[band];
    if (!of || at < 0 || at >= of.cells.length + of.free) return null;
    return { node: of.node, ...of.cells[at] };
  }

  point(where) {
    if (!where) return;
    this.cursor = where;
    this.onPoint(this.cellOf(where));
    this.draw();
  }

  key(event) {
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns };
    const now = this.cursor ?? { band: 0, at: -1 };
    if (event.key === "Enter") this.onChoose(this.cellOf(now)?.model);
    else if (event.key in steps) {
      let { band, at } = now;
      at += this.cursor ? steps[event.key] : 1;
      if (!this.cellOf({ band, at })) {
        const way = steps[event.key] < 0 ? -1 : 1;
        do band += way;
        while (this.bands[band] && !this.cellOf({ band, at: 0 }));
        const next = this.bands[band];
        if (!next) return;
        at = way > 0 ? 0 : next.cells.length + next.free - 1;
      }
      event.preventDefault();
      this.point({ band, at });
    }
  }
}

function shortened(pen, text, width) {
  if (pen.measureText(text).width <= width) return text;
  let end = Math.min(text.length, 40);
  while (end > 1 && pen.measureText(`${text.slice(0, end)}…`).width > width) end--;
  return `${text.slice(0, end)}…`;
}
