// Elements with text. Whatever comes from the wire becomes text here, and never markup.

export const by = (id) => document.getElementById(id);

// Sets what is different only: a reader's place, a selection and a screen reader are left alone.
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function make(name, text = "", classes = "") {
  const element = document.createElement(name);
  if (text !== "") element.textContent = text;
  if (classes) element.className = classes;
  return element;
}

// Rows of a table's body. A cell is a text, or {text, n: a number, mark: a state, share: 0 to 1}.
export function fill(body, rows, empty = "") {
  const columns = body.parentElement.tHead.rows[0].cells;
  const wanted = rows.length || (empty ? 1 : 0);
  while (body.rows.length > wanted) body.deleteRow(-1);
  if (!rows.length) {
    if (!empty) return;
    const row = body.rows[0] ?? body.insertRow();
    while (row.cells.length > 1) row.deleteCell(-1);
    const cell = row.cells[0] ?? row.insertCell();
    cell.className = "empty";
    cell.colSpan = columns.length;
    cell.removeAttribute("data-mark");
    say(cell, empty);
    return;
  }
  rows.forEach((cells, at) => {
    const row = body.rows[at] ?? body.insertRow();
    cells.forEach((value, column) => {
      const cell = row.cells[column] ?? row.insertCell();
      put(cell, typeof value === "string" ? { text: value } : value, columns[column].className);
    });
  });
}

function put(cell, value, classes) {
  if (cell.className !== classes) cell.className = classes;
  if (cell.colSpan !== 1) cell.colSpan = 1;
  if (value.share !== undefined) {
    if (!cell.querySelector("meter")) cell.replaceChildren(make("meter"));
    const meter = cell.firstChild;
    meter.value = value.share;
    meter.title = value.text;
    meter.setAttribute("aria-label", value.text);
    return;
  }
  if (value.mark) cell.dataset.mark = value.mark;
  else cell.removeAttribute("data-mark");
  if (cell.title !== (value.title ?? "")) cell.title = value.title ?? "";
  say(cell, value.text);
}

export const number = (value, digits = 0) =>
  value === null || value === undefined
    ? "–"
    : value.toLocaleString("en", { maximumFractionDigits: digits, minimumFractionDigits: 0 });

export const rate = (value) => number(value, value < 10 ? 1 : 0);

export function share(value) {
  if (value === null || value === undefined) return "–";
  const percent = value * 100;
  return `${number(percent, percent > 99 && percent < 100 ? 2 : 1)}%`;
}

export function millis(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const ms = seconds * 1000;
  return Math.abs(ms) < 1000 ? `${number(ms, ms < 10 ? 1 : 0)} ms` : `${number(seconds, 1)} s`;
}

export function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 120) return `${number(seconds, seconds < 10 ? 1 : 0)} s`;
  if (seconds < 7200) return `${number(seconds / 60)} min`;
  return seconds < 172_800 ? `${number(seconds / 3600)} h` : `${number(seconds / 86_400)} d`;
}

export function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (count >= 1024 && at < units.length - 1) {
    count /= 1024;
    at++;
  }
  return `${number(count, at ? 1 : 0)} ${units[at]}`;
}
