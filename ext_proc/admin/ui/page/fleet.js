// What several processes say, as one fleet: nodes by id, and which of them holds which model.

const GROUPS = { available: "resident", fetching: "loading", loading: "loading", draining: "draining", failed: "failed" };

// Nodes by id: {id, zone, address, alive, why, load, free, holds: model -> {group, state, flying, waiting, memory, ...}}.
// A node's own word counts more than an edge's, where both are there.
export function fleetOf(processes) {
  const nodes = new Map();
  const byPublish = new Map();
  const heard = processes.filter((each) => each.document);
  for (const { document, models, away } of heard) {
    if (document.role !== "edge" || away !== null) continue;
    for (const each of document.nodes) {
      const node = nodes.get(each.id) ?? start(each.id);
      nodes.set(each.id, node);
      node.zone = each.zone;
      node.address = each.grpc ?? each.rest ?? "";
      node.edges++;
      node.deadAt += each.alive ? 0 : 1;
      node.load += each.load;
      node.why ||= each.cause ?? each.residency?.cause ?? "";
      node.leaving ||= each.residency?.leaving ?? false;
      node.free = each.residency?.free_models ?? node.free;
      if (each.residency) byPublish.set(each.residency.address, node);
    }
    for (const [model, holders] of models)
      for (const id of Object.keys(holders)) {
        const node = nodes.get(id);
        if (node && GROUPS[holders[id]]) node.holds.set(model, { group: GROUPS[holders[id]], state: holders[id] });
      }
  }
  for (const each of heard) if (each.document.role === "node") ownWord(nodes, byPublish, each);
  return [...nodes.values()].sort((one, other) => (one.id < other.id ? -1 : 1));
}

function start(id) {
  return { id, zone: "", address: "", edges: 0, deadAt: 0, load: 0, free: null, leaving: false, why: "", holds: new Map(), away: null };
}

function ownWord(nodes, byPublish, { address, document, models, away }) {
  let node = byPublish.get(published(document.publish, address));
  if (!node) {
    const id = address || "this process";
    node = { ...start(id), address };
    nodes.set(id, node);
  }
  if (away !== null) {
    node.away = away;
    node.why ||= away;
    return;
  }
  node.leaving ||= document.draining;
  node.free = document.free.models;
  node.capacity = document.capacity.models;
  if (document.model_server !== "ok") node.why ||= document.model_server;
  node.holds = new Map();
  for (const [model, versions] of models) {
    for (const [version, state, flying, waiting, pinned, disk, memory, cause] of versions) {
      const group = GROUPS[state];
      if (!group) continue;
      const before = node.holds.get(model);
      const held = { group, state, version, flying, waiting, pinned, disk, memory, cause };
      if (before) {
        held.flying += before.flying;
        held.waiting += before.waiting;
        held.memory += before.memory;
        if (before.group === "resident") held.group = "resident";
      }
      node.holds.set(model, held);
    }
  }
}

// An address that is bound on all interfaces is reached at the host of the admin port.
function published(publish, admin) {
  if (!publish) return null;
  const any = /^(0\.0\.0\.0|\[::\]):(\d+)$/.exec(publish);
  return any && admin ? `${admin.slice(0, admin.lastIndexOf(":"))}:${any[2]}` : publish;
}

// [word, mark] of a node.
export function stateOf(node) {
  if (node.edges && node.deadAt === node.edges) return ["dead", "bad"];
  if (node.deadAt) return [`dead at ${node.deadAt} of ${node.edges} edges`, "bad"];
  if (node.away !== null) return ["away", "bad"];
  return node.leaving ? ["leaving", "warn"] : ["alive", "good"];
}

// Models by name: {name, on: [[node id, state]...], flying, waiting, memory}.
export function modelsOf(nodes) {
  const models = new Map();
  for (const node of nodes)
    for (const [name, held] of node.holds) {
      let model = models.get(name);
      if (!model) models.set(name, (model = { name, on: [], groups: new Set(), flying: 0, waiting: 0, memory: 0 }));
      model.on.push([node.id, held.state]);
      model.groups.add(held.group);
      model.flying += held.flying ?? 0;
      model.waiting += held.waiting ?? 0;
      model.memory += held.memory ?? 0;
    }
  return [...models.values()].sort((one, other) => (one.name < other.name ? -1 : 1));
}
