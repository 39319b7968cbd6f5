// The trace as the page wants it: spans of time that can be asked for by range. Nothing here touches the page.

const FAMILIES = ["append", "vote", "snapshot", "read", "other", "heartbeat"];

/** What a message is about, by the name of its type. */
function familyOf(event) {
  if (event.heartbeat) return "heartbeat";
  for (const family of ["vote", "append", "snapshot", "read"]) {
    if (event.what.toLowerCase().includes(family)) return family;
  }
  return "other";
}

/** Items with `from` and `to`, ordered by `from`; finds those that overlap a range without looking at all. */
class Spans {
  static BLOCK = 128;

  constructor(items) {
    this.items = items.slice().sort((a, b) => a.from - b.from);
    this.latest = [];
    this.items.forEach((item, number) => {
      const block = Math.floor(number / Spans.BLOCK);
      this.latest[block] = Math.max(this.latest[block] ?? -Infinity, item.to);
    });
  }

  /** The number of items that begin before `time`. */
  before(time) {
    let low = 0;
    let high = this.items.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.items[middle].from < time) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The items that have a part in `from .. to`, in order. */
  within(from, to) {
    const found = [];
    for (let block = 0; block < this.latest.length; block++) {
      const first = block * Spans.BLOCK;
      if (this.items[first].from > to) break;
      if (this.latest[block] < from) continue;
      for (const item of this.items.slice(first, first + Spans.BLOCK)) {
        if (item.from <= to && item.to >= from) found.push(item);
      }
    }
    return found;
  }
}

/** Gives each item the lowest row in which it overlaps no other; returns the number of rows. */
function stack(items) {
  const ends = [];
  for (const item of items) {
    let row = ends.findIndex((end) => end <= item.from);
    if (row < 0) row = ends.length;
    item.row = row;
    ends[row] = item.to;
  }
  return ends.length;
}

function grouped(items, keyOf) {
  const groups = new Map();
  for (const item of items) {
    const key = keyOf(item);
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(item);
  }
  return groups;
}

/** The nodes of the trace, and behind them those that only events know. */
function nodesOf(trace, events) {
  const nodes = new Set(trace.nodes);
  for (const event of events) {
    if (event.node !== undefined) nodes.add(event.node);
    if (event.kind === "message") nodes.add(event.sender).add(event.to);
  }
  return [...nodes];
}

/** Where the run begins and ends; never an empty span. */
function boundsOf(trace, events) {
  let from = 0;
  let to = trace.end;
  for (const event of events) {
    from = Math.min(from, event.at);
    to = Math.max(to, event.at, event.arrival ?? event.at);
  }
  return { from, to: to > from ? to : from + 1 };
}

function typicalDelay(messages) {
  const delays = messages
    .filter((event) => event.arrival !== undefined)
    .map((event) => event.arrival - event.at);
  delays.sort((a, b) => a - b);
  return delays[delays.length >> 1] ?? 0.001;
}

function messagesOf(messages, bounds, typical) {
  return messages.map((event) => ({
    ...event,
    from: event.at,
    to: event.arrival ?? event.lost_at ?? (event.lost ? event.at + typical : Math.max(bounds.to, event.at)),
    receiver: event.to,
    family: familyOf(event),
    reply: event.what.endsWith("Reply"),
  }));
}

/** What a node is after an event of its own; `up` tells whether it runs, `role` and `term` what it is then. */
function stateAfter(state, event) {
  if (event.kind === "role") {
    return { up: state.up === "absent" ? "up" : state.up, role: event.role, term: event.term };
  }
  const up = { start: "up", resume: "up", pause: "paused" }[event.what] ?? "down";
  const role = event.what === "start" ? "follower" : state.role;
  return { up, role, term: event.what === "wipe" ? undefined : state.term };
}

/** What a node was, from span to span. Spans without length are left out. */
function segmentsOf(node, events, end) {
  const segments = [];
  let state = { up: "absent", role: "follower", term: undefined };
  let from;
  const close = (to) => {
    const shown = state.up === "up" ? state.role : state.up;
    if (from !== undefined && to > from)
      segments.push({ kind: "segment", node, from, to, state: shown, term: state.term });
  };
  for (const event of events) {
    const next = stateAfter(state, event);
    if (next.up === state.up && next.role === state.role && next.term === state.term) continue;
    close(event.at);
    state = next;
    from = event.at;
  }
  close(end);
  return segments;
}

/** Each sync as one span. It ends with the event that ended it, or with the run. */
function syncsOf(events, end) {
  const open = new Map();
  const syncs = [];
  for (const event of events) {
    const ends =
      event.kind === "sync"
        ? event.what !== "begun"
        : event.kind === "life" && event.what !== "pause" && event.what !== "resume";
    if (!ends && event.kind !== "sync") continue;
    const sync = open.get(event.node);
    if (ends && sync) {
      sync.to = event.at;
      sync.outcome = event.kind === "sync" ? event.what : "ended by " + event.what;
      open.delete(event.node);
    }
    if (ends) continue;
    const begun = {
      kind: "sync",
      node: event.node,
      from: event.at,
      to: end,
      outcome: "not done",
      text: event.text,
    };
    open.set(event.node, begun);
    syncs.push(begun);
  }
  return syncs;
}

/** Each call with its return as one span. */
function operationsOf(events, end) {
  const open = new Map();
  const operations = [];
  for (const event of events) {
    if (event.kind !== "call" && event.kind !== "return") continue;
    const key = JSON.stringify([event.client, event.operation]);
    let operation = open.get(key);
    if (event.kind === "call" || !operation) {
      operation = {
        kind: "operation",
        client: event.client,
        text: event.text ?? "(its call is not in the trace)",
        from: event.at,
        to: end,
      };
      operations.push(operation);
      open.set(key, operation);
    }
    if (event.kind === "return") {
      Object.assign(operation, { to: event.at, result: event.result, returned: true });
      open.delete(key);
    }
  }
  return operations;
}

function placed(events, kind, from = (event) => event.at, to = from) {
  return events
    .filter((event) => event.kind === kind)
    .map((event) => ({ ...event, from: from(event), to: to(event) }));
}

/** Rows for the operations of each client: one, or more if it has several open at a time. */
function clientRows(operations) {
  const rows = [];
  for (const [client, own] of [...grouped(operations, (operation) => operation.client)].sort(
    (a, b) => Number(a[0]) - Number(b[0]),
  )) {
    const first = rows.length;
    const count = stack(own);
    for (let row = 0; row < count; row++) rows.push(row ? "" : `client ${client}`);
    for (const operation of own) operation.row += first;
  }
  return rows;
}

function buildModel(trace) {
  const events = trace.events.slice().sort((a, b) => a.at - b.at);
  const bounds = boundsOf(trace, events);
  const nodes = nodesOf(trace, events);
  const states = grouped(
    events.filter((event) => event.kind === "role" || event.kind === "life"),
    (event) => event.node,
  );
  const faults = placed(events, "fault", undefined, (event) => event.until ?? bounds.to);
  const operations = operationsOf(events, bounds.to);
  const progress = placed(events, "progress");
  const messages = events.filter((event) => event.kind === "message");
  const typical = typicalDelay(messages);
  const isTick = (item) => item.what === "commit" || item.what === "apply";
  return {
    trace,
    bounds,
    nodes,
    segments: new Map(
      nodes.map((node) => [node, new Spans(segmentsOf(node, states.get(node) ?? [], bounds.to))]),
    ),
    typical,
    messages: new Spans(messagesOf(messages, bounds, typical)),
    lives: new Map(
      [...grouped(placed(events, "life"), (event) => event.node)].map(([node, lives]) => [
        node,
        new Spans(lives),
      ]),
    ),
    marks: new Spans([
      ...placed(events, "life"),
      ...placed(events, "members"),
      ...progress.filter((item) => !isTick(item)),
    ]),
    ticks: new Spans(progress.filter(isTick)),
    syncs: new Spans(syncsOf(events, bounds.to)),
    faultRows: stack(faults),
    faults: new Spans(faults),
    clientRows: clientRows(operations),
    operations: new Spans(operations),
    violations: placed(events, "violation"),
    progress: grouped(progress, (item) => item.node),
  };
}

/** What each node was at a moment: its state, term, and how far it had committed and applied. */
function stateAt(model, time) {
  return model.nodes.map((node) => {
    const spans = model.segments.get(node);
    const segment = spans.items[spans.before(time + 1e-12) - 1];
    const now = segment && segment.to >= time ? segment : { state: "not started" };
    const latest = { commit: "", apply: "" };
    for (const item of model.progress.get(node) ?? []) {
      if (item.at > time) break;
      latest[item.what] = item.index;
    }
    return { node, state: now.state, term: now.term ?? "", commit: latest.commit, apply: latest.apply };
  });
}
