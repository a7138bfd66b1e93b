// The stream of updates, merged into what every process last said, and what its counters gained since.

import { gained } from "./counters.js";

const RETRY_MS = 2000;

export class Feed {
  // `onTick` is called once all processes of one look have been told; `onState` with "live", "lost" or "draining".
  constructor(onTick, onState) {
    this.processes = new Map();
    this.gains = []; // of each process at this look
    this.onTick = onTick;
    this.onState = onState;
    this.draining = false;
    this.told = false; // of something that no tick has shown yet
  }

  open() {
    const source = new EventSource("events");
    source.addEventListener("update", (event) => this.update(JSON.parse(event.data)));
    source.addEventListener("draining", () => {
      this.draining = true;
    });
    source.onopen = () => {
      this.draining = false;
      this.onState("live");
    };
    source.onerror = () => {
      source.close();
      this.flush();
      this.onState(this.draining ? "draining" : "lost");
      setTimeout(() => this.open(), RETRY_MS);
    };
  }

  update(update) {
    if (update.address === "") this.flush(); // the first one of a look
    const before = this.processes.get(update.address);
    if (update.away !== null) {
      this.processes.set(update.address, { ...before, address: update.address, away: update.away, models: new Map() });
    } else {
      const models = update.whole ? new Map() : before.models;
      for (const name of update.gone ?? []) models.delete(name);
      for (const name of Object.keys(update.models)) models.set(name, update.models[name]);
      const { at, address, document } = update;
      const now = { address, at, away: null, document, models, leftOut: update.models_left_out };
      this.processes.set(address, now);
      if (before?.document && before.document.role === document.role && at > before.at) {
        now.gain = gained(before.document, document, at - before.at);
        this.gains.push({ address, ...now.gain });
      }
    }
    this.told = true;
    clearTimeout(this.later);
    this.later = setTimeout(() => this.flush(), 100);
  }

  flush() {
    clearTimeout(this.later);
    if (!this.told) return;
    this.told = false;
    const gains = this.gains;
    this.gains = [];
    this.onTick([...this.processes.values()], gains);
  }
}
