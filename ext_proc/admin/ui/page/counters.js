// Counters of two documents: what came in between, what several together make, and quantiles of it.

const NONE = Object.freeze(Object.create(null));

const own = (object, name) => (object && Object.hasOwn(object, name) ? object[name] : undefined);

// Numbers in objects and lists, however deep: `after` less `before`. A process that has begun anew counts from nothing.
export function less(after, before) {
  if (typeof after === "number") return Math.max(0, after >= (before ?? 0) ? after - (before ?? 0) : after);
  if (Array.isArray(after)) return after.map((value, at) => less(value, before?.[at]));
  return map(after, (value, name) => less(value, own(before, name)));
}

export function plus(one, other) {
  if (one === undefined) return other;
  if (other === undefined) return one;
  if (typeof one === "number") return one + other;
  if (Array.isArray(one)) return one.map((value, at) => value + (other[at] ?? 0));
  const sum = map(one, (value, name) => plus(value, own(other, name)));
  for (const name of Object.keys(other)) if (!Object.hasOwn(one, name)) sum[name] = other[name];
  return sum;
}

// Without a prototype: names come from the wire, `__proto__` among them.
function map(object, change) {
  const found = Object.create(null);
  for (const name of Object.keys(object)) found[name] = change(object[name], name);
  return found;
}

// The counters of one document.
export function counters(document) {
  const races = document.races ?? NONE;
  return {
    calls: document.calls ?? NONE,
    ways: waysOf(document),
    inTime: races.in_time ?? NONE,
    endings: races.endings ?? NONE,
    fates: races.candidates ?? NONE,
    seconds: spreads(races.seconds ?? NONE),
    batches: map(document.batches ?? NONE, (each) => spreads(each)),
  };
}

export function gained(before, after, seconds) {
  return { dt: seconds, ...less(counters(after), counters(before)) };
}

function waysOf(document) {
  if (document.role !== "edge") return NONE;
  const ways = Object.create(null);
  if (document.ways) {
    ways.known = document.ways.known;
    for (const [way, grounds] of Object.entries(document.ways.asked))
      ways[way] = Object.values(grounds).reduce((sum, count) => sum + count, 0);
  }
  for (const outcome of ["passed", "refused"]) if (document.calls?.[outcome]) ways[outcome] = document.calls[outcome];
  return ways;
}

function spreads(named) {
  return map(named, (spread) => ({ counts: spread.counts, sum: spread.sum }));
}

export function total(counts) {
  return counts === undefined ? 0 : Object.values(counts).reduce((sum, count) => sum + count, 0);
}

// The value below which `share` of the values lie, evenly spread in their bucket; null without any. What lies beyond the
// last bound is taken for that bound.
export function quantile(spread, bounds, share) {
  const all = total(spread?.counts);
  if (!all) return null;
  let left = share * all;
  for (let at = 0; at < bounds.length; at++) {
    const count = spread.counts[at];
    if (count && left <= count) {
      const low = at ? bounds[at - 1] : 0;
      return low + ((bounds[at] - low) * left) / count;
    }
    left -= count;
  }
  return bounds[bounds.length - 1];
}
