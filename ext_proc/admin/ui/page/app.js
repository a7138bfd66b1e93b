// The page: what the feed tells is summed up, and shown in its sections.

import { Chart } from "./charts.js";
import { plus, quantile, total } from "./counters.js";
import { by, bytes, fill, make, millis, number, rate, say, share, span } from "./dom.js";
import { Feed } from "./feed.js";
import { fleetOf, modelsOf, stateOf } from "./fleet.js";
import { LongTable } from "./long_table.js";
import { Picture } from "./picture.js";

const SMOOTH_SECONDS = 10; // that a point of a chart is made of
const WINDOW_SECONDS = 60; // that tables and tiles are made of
const WAYS = ["known", "decided", "raced", "gathered", "passed", "refused"];

const charts = {
  inTime: new Chart(by("charts"), "Answered by the limit", share, { top: 1 }),
  latency: new Chart(by("charts"), "Time to answer, 95th percentile, by rank", millis, { empty: 0.1 }),
  ways: new Chart(by("charts"), "Calls a second, by the way they went", rate, { empty: 10 }),
  budget: new Chart(by("charts"), "Budget: work that backups may still start", (ms) => millis(ms === null ? null : ms / 1000), { empty: 100 }),
};
const gains = []; // of the last window: {time, dt, of: the sum of all processes}
let processes = [];
let nodes = [];
let models = [];
const dead = new Set();

const picture = new Picture(by("picture"), pointed, (model) => {
  if (model === undefined) return;
  by("search").value = model;
  filter();
});
const table = new LongTable(by("models-frame"), by("models"), (model) => [
  model.name,
  model.on.map(([node, state]) => (state === "available" ? node : `${node} (${state})`)).join(", "),
  model.flying ? number(model.flying) : "",
  model.waiting ? number(model.waiting) : "",
  model.memory ? bytes(model.memory) : "",
]);

new Feed(tick, (state) => {
  by("connection").dataset.state = state;
  say(by("connection"), { live: "Live", lost: "Not live: no connection, or too many pages; trying again", draining: "This process is draining" }[state]);
}).open();
by("filter").addEventListener("input", filter);
by("filter").addEventListener("submit", (event) => event.preventDefault());

function tick(all, gained) {
  processes = all;
  const time = Date.now() / 1000;
  if (gained.length) {
    const sum = gained.map(({ dt, address, ...of }) => of).reduce(plus);
    gains.push({ time, dt: Math.max(...gained.map((each) => each.dt)), of: sum, by: gained });
    while (gains.length && gains[0].time < time - WINDOW_SECONDS) gains.shift();
  }
  const minute = gathered(WINDOW_SECONDS, time);
  const edges = processes.filter((each) => each.away === null && each.document.role === "edge");
  if (gained.length) draw(gathered(SMOOTH_SECONDS, time), edges, time);
  const nodesOnly = processes.every((each) => each.document?.role === "node");
  by("no-edge").hidden = !nodesOnly;
  by("charts").hidden = by("races").hidden = nodesOnly;
  nodes = fleetOf(processes);
  models = modelsOf(nodes);
  tiles(minute, edges);
  whys(minute);
  batches(time);
  fleet(edges);
  choices();
  filter();
  alarm();
}

// The gains of the last seconds, as one; null before the first.
function gathered(seconds, time) {
  const last = gains.filter((each) => each.time > time - seconds);
  if (!last.length) return null;
  return { dt: last.reduce((sum, each) => sum + each.dt, 0), of: last.map((each) => each.of).reduce(plus) };
}

const answered = (of) => {
  const races = total(of.inTime);
  return races ? (of.inTime.yes ?? 0) / races : null;
};

function bounds(name) {
  for (const { document } of processes) for (const each of Object.values(document?.races?.[name] ?? {})) return each.bounds;
  return [];
}

function rankName(rank) {
  if (rank === "0") return "primary";
  if (rank === "none") return "no answer";
  return /^\d+$/.test(rank) ? `backup ${rank}` : rank;
}

function draw({ dt, of }, edges, time) {
  charts.inTime.add(time, { share: answered(of) });
  const latency = { primary: null };
  for (const rank of Object.keys(of.seconds).sort()) latency[rankName(rank)] = quantile(of.seconds[rank], bounds("seconds"), 0.95);
  charts.latency.add(time, latency);
  const ways = {};
  for (const way of WAYS) if (of.ways[way] !== undefined) ways[way] = of.ways[way] / dt;
  charts.ways.add(time, ways);
  const budget = {};
  for (const { address, document } of edges) if (document.races) budget[address || "this edge"] = document.races.budget_ms;
  charts.budget.add(time, budget);
}

function tiles(minute, edges) {
  const alive = nodes.filter((node) => stateOf(node)[1] !== "bad").length;
  const primary = minute?.of.seconds["0"];
  const known = minute ? share(total(minute.of.ways) ? (minute.of.ways.known ?? 0) / total(minute.of.ways) : null) : "–";
  const values = [
    ["calls a second", minute ? rate(total(edges.length ? minute.of.ways : minute.of.calls) / minute.dt) : "–"],
    ["answered by the limit", minute ? share(answered(minute.of)) : "–"],
    ["primary, median", primary ? millis(quantile(primary, bounds("seconds"), 0.5)) : "–"],
    ["known: nobody asked", known],
    ["nodes alive", `${number(alive)} of ${number(nodes.length)}`],
    ["models held", number(models.filter(({ groups }) => groups.size > 1 || !groups.has("failed")).length)],
  ];
  const list = by("tiles");
  values.forEach(([name, value], at) => {
    const tile = list.children[at] ?? list.appendChild(make("div"));
    if (!tile.children.length) tile.append(make("dt"), make("dd"));
    say(tile.children[0], name);
    say(tile.children[1], value);
  });
}

function whys(minute) {
  const rows = [];
  for (const [outcome, whys] of Object.entries(minute?.of.endings ?? {}))
    for (const [why, count] of Object.entries(whys)) if (count) rows.push([outcome, why, count]);
  rows.sort((one, other) => other[2] - one[2]);
  const all = rows.reduce((sum, row) => sum + row[2], 0);
  fill(
    by("why"),
    rows.map(([outcome, why, count]) => [outcome, why || "the client left", number(count), { text: share(count / all), share: count / all }]),
    "No race has ended.",
  );
  const fates = Object.entries(minute?.of.fates ?? {}).filter(([, fates]) => total(fates));
  fates.sort(([one], [other]) => one - other);
  fill(
    by("fates"),
    fates.map(([rank, fates]) => [rankName(rank), ...["won", "lost", "late", "cancelled", "failed"].map((fate) => number(fates[fate] ?? 0))]),
    "No candidate was called.",
  );
}

function batches(time) {
  const rows = [];
  for (const { address, document, away } of processes) {
    if (away !== null || !document.batches) continue;
    const last = gains.filter((each) => each.time > time - WINDOW_SECONDS).flatMap((each) => each.by.filter((one) => one.address === address));
    const seconds = last.reduce((sum, each) => sum + each.dt, 0);
    const gain = last.length ? last.map((each) => each.batches).reduce(plus) : Object.create(null);
    for (const [model, all] of Object.entries(document.batches)) {
      const now = gain[model];
      const count = total(now?.rows.counts);
      rows.push([
        model,
        address || "this process",
        seconds ? rate(count / seconds) : "–",
        count ? number(now.rows.sum / count, 1) : "–",
        millis(now && quantile(now.waits, all.waits.bounds, 0.5)),
        millis(now && quantile(now.waits, all.waits.bounds, 0.95)),
        number(total(all.rows.counts)),
        sizes(all.rows),
      ]);
    }
  }
  fill(by("batch-rows"), rows, "Nothing is gathered into batches here.");
}

// The shares of the sizes of batches, the most frequent ones first.
function sizes({ bounds, counts }) {
  const all = total(counts);
  const named = counts.map((count, at) => [at < bounds.length ? `${(bounds[at - 1] ?? 0) + 1 < bounds[at] ? "to " : ""}${bounds[at]}` : "more", count]);
  const top = named.filter(([, count]) => count).sort((one, other) => other[1] - one[1]).slice(0, 3);
  return top.map(([size, count]) => `${size}: ${share(count / all)}`).join(", ");
}

function fleet(edges) {
  fill(
    by("nodes"),
    nodes.map((node) => {
      const [state, mark] = stateOf(node);
      return [node.id, { text: state, mark }, node.zone, number(node.load, 1), number([...node.holds.values()].filter(({ group }) => group !== "failed").length), node.free === null ? "–" : number(node.free), node.address, { text: node.why, title: node.why }];
    }),
    "No node is known.",
  );
  fill(
    by("processes"),
    processes.map(({ address, away, document, gain }) => {
      const state = away !== null ? { text: "away", mark: "bad" } : document.draining ? { text: "draining", mark: "warn" } : { text: "serving", mark: "good" };
      const calls = away === null && gain ? rate(total(gain.calls) / gain.dt) : "–";
      const [work, up] = away === null ? [number(document.streams), span(document.uptime_seconds)] : ["–", "–"];
      return [address || "this one", document?.role ?? "", state, calls, work, up, { text: away ?? "", title: away ?? "" }];
    }),
  );
  const rows = [];
  for (const { address, document } of edges)
    for (const source of document.sources)
      rows.push([
        address || "this one",
        source.name,
        source.stale ? { text: `stale for ${span(source.down_seconds)}`, mark: "warn" } : { text: "fresh", mark: "good" },
        number(source.nodes),
        source.heard_seconds_ago === null ? "never" : `${span(source.heard_seconds_ago)} ago`,
        source.held_back.join(", "),
        { text: source.cause ?? "", title: source.cause ?? "" },
      ]);
  fill(by("sources"), rows, "No edge is shown, or none has a source of nodes.");
}

function choices() {
  const select = by("node");
  const ids = nodes.map((node) => node.id);
  if (select.options.length === ids.length + 1 && ids.every((id, at) => select.options[at + 1].value === id)) return;
  const chosen = select.value;
  select.replaceChildren(select.options[0], ...ids.map((id) => Object.assign(make("option", id), { value: id })));
  select.value = ids.includes(chosen) ? chosen : "";
}

function filter() {
  const text = by("search").value.trim().toLowerCase();
  const [state, node] = [by("state").value, by("node").value];
  const named = (name) => !text || name.toLowerCase().includes(text);
  const inState = (held) => !state || (state === "busy" ? held.flying > 0 : held.group === state);
  picture.show(nodes, (name, held, on) => named(name) && inState(held) && (!node || on.id === node));
  const chosen = nodes.filter((each) => !node || each.id === node);
  const found = text || state || node ? models.filter(({ name }) => named(name) && chosen.some((each) => each.holds.has(name) && inState(each.holds.get(name)))) : models;
  table.show(found);
  say(by("found"), found.length === models.length ? counted(models, "model") : `${number(found.length)} of ${counted(models, "model")}`);
  by("picture").setAttribute("aria-label", `${counted(models, "model")} on ${counted(nodes, "node")}; the table below says the same`);
  const left = processes.filter((each) => each.leftOut);
  by("left-out").hidden = !left.length;
  say(by("left-out"), left.map((each) => `${each.address || "This process"} tells of its first models only; ${number(each.leftOut)} are not shown.`).join(" "));
}

function pointed(cell) {
  if (!cell) return;
  const { node, model, held } = cell;
  const words = [node.id, model === undefined ? "free room" : model];
  if (held) {
    if (held.version !== undefined) words.push(`version ${held.version}`);
    words.push(held.state);
    if (held.flying) words.push(`${number(held.flying)} in flight`);
    if (held.waiting) words.push(`${number(held.waiting)} waiting`);
    if (held.pinned) words.push("pinned");
    if (held.memory) words.push(bytes(held.memory));
    if (held.cause) words.push(held.cause);
  }
  say(by("pointed"), words.join(" · "));
}

const counted = (items, name) => `${number(items.length)} ${name}${items.length === 1 ? "" : "s"}`;

// Said once, when a node dies or a process is away; a list that stays is in the tables.
function alarm() {
  const now = nodes.filter((node) => stateOf(node)[1] === "bad").map((node) => `${node.id} is ${stateOf(node)[0]}`);
  for (const { address, away } of processes) if (away !== null) now.push(`${address} is away`);
  if (now.length === dead.size && now.every((each) => dead.has(each))) return;
  dead.clear();
  for (const each of now) dead.add(each);
  const shown = now.slice(0, 5);
  by("alarm").hidden = !now.length;
  say(by("alarm"), shown.join("; ") + (now.length > shown.length ? `; and ${number(now.length - shown.length)} more` : ""));
}
