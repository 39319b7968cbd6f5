// Finds what is under the pointer, and tells in words what an item is.

/** The box of an item that is not a message, in pixels. */
function boxOf(view, item) {
  const { left, width } = extent(view, item);
  const { layout, scroll } = view;
  const lane = layout.lane.get(item.node) - scroll;
  const box = (top, height) => ({ left, top: top - scroll, width: Math.max(width, 2), height });
  switch (item.kind) {
    case "segment":
      return box(lane + scroll, BAND);
    case "fault":
      return box(layout.faults + item.row * FAULT_ROW, FAULT_ROW - 3);
    case "operation":
      return box(layout.client + item.row * CLIENT_ROW, CLIENT_ROW - 4);
    case "sync":
      return box(lane + scroll + BAND + 9, 5);
    case "violation":
      return { left: left - 3, top: AXIS, width: 6, height: view.height };
  }
  if (item.what === "commit" || item.what === "apply") {
    return { left: left - 3, top: lane + BAND + (item.what === "commit" ? 0 : 5), width: 6, height: 5 };
  }
  const { x, y } = markPlace(view, item);
  return { left: x - 8, top: y - 8, width: 16, height: 16 };
}

function inside({ left, top, width, height }, { x, y }) {
  return x >= left - 1 && x <= left + width + 1 && y >= top && y <= top + height;
}

function distance({ x0, y0, x1, y1 }, { x, y }) {
  const [dx, dy] = [x1 - x0, y1 - y0];
  const part = Math.min(Math.max(((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy || 1), 0), 1);
  return Math.hypot(x - x0 - part * dx, y - y0 - part * dy);
}

function nearestMessage(page, point) {
  let best;
  let least = 6;
  for (const item of page.drawn) {
    const away = distance(pathOf(page.view, item), point);
    if (away < least) [best, least] = [item, away];
  }
  return best;
}

/** The topmost thing at a point of the chart, if there is one. */
function itemAt(page, point) {
  const { view, model, shown } = page;
  if (point.x < GUTTER || point.y < AXIS) return undefined;
  const margin = (10 / view.width) * view.span;
  const near = (spans) => spans.within(view.timeAt(point.x) - margin, view.timeAt(point.x) + margin);
  const hit = (items) => items.findLast((item) => inside(boxOf(view, item), point));
  return (
    hit(model.violations) ??
    hit(near(model.marks)) ??
    (shown.progress ? hit(near(model.ticks)) : undefined) ??
    (shown.sync ? hit(near(model.syncs)) : undefined) ??
    (shown.client ? hit(near(model.operations)) : undefined) ??
    (shown.fault ? hit(near(model.faults)) : undefined) ??
    nearestMessage(page, point) ??
    hit(model.nodes.flatMap((node) => near(model.segments.get(node))))
  );
}

function momentText(time) {
  return `${+time.toFixed(6)} s`;
}

function spanRows(item) {
  return [
    ["from", momentText(item.from)],
    ["to", momentText(item.to)],
    ["took", durationText(item.to - item.from)],
  ];
}

function messageFate(item) {
  if (item.arrival !== undefined)
    return [
      ["arrived", momentText(item.arrival)],
      ["took", durationText(item.arrival - item.at)],
    ];
  const fate = {
    lost: "lost by the network",
    cut: "lost: the link was cut",
    "receiver down": "lost: the receiver was down",
  };
  const when = item.lost_at === undefined ? [] : [["lost at", momentText(item.lost_at)]];
  return [["arrived", fate[item.lost] ?? item.lost ?? "not before the run ended"], ...when];
}

/** What an item is: a title, and rows of names and values. */
const WORDS = {
  message: (item) => [
    `${item.what}: node ${item.sender} \u2192 node ${item.receiver}`,
    [
      ["sent", momentText(item.at)],
      ...messageFate(item),
      ...(item.duplicate ? [["copy", "a duplicate"]] : []),
      ...(item.heartbeat ? [["kind", "heartbeat"]] : []),
      ["contents", item.text],
    ],
  ],
  segment: (item) => [`node ${item.node}: ${roleName(item.state)}`, [["term", item.term], ...spanRows(item)]],
  life: (item) => [
    `node ${item.node}: ${item.what}${item.what === "crash" ? " (power loss)" : ""}`,
    [
      ["at", momentText(item.at)],
      ["", item.text],
    ],
  ],
  fault: (item) => [
    item.text,
    [
      ["nodes", item.nodes?.join(", ")],
      ["links", item.links?.map((link) => link.join(" \u2192 ")).join(", ")],
      ...spanRows(item),
    ],
  ],
  progress: (item) => [
    `node ${item.node}: ${item.what}`,
    [
      ["index", item.index],
      ["at", momentText(item.at)],
      ["", item.text],
    ],
  ],
  sync: (item) => [
    `node ${item.node}: sync`,
    [["outcome", item.outcome], ...spanRows(item), ["", item.text]],
  ],
  members: (item) => [
    `node ${item.node}: membership`,
    [
      ["", item.text],
      ["at", momentText(item.at)],
    ],
  ],
  operation: (item) => [
    `client ${item.client}: ${item.text}`,
    [["result", item.returned ? (item.result ?? "unknown") : "did not return"], ...spanRows(item)],
  ],
  violation: (item) => [
    `Violation: ${item.text}`,
    [
      ["nodes", item.nodes?.join(", ")],
      ["at", momentText(item.at)],
    ],
  ],
};

function wordsOf(item) {
  const [title, rows] = WORDS[item.kind](item);
  return { title, rows: rows.filter(([, value]) => value !== undefined && value !== "") };
}

/** An element with text or elements in it. Texts of the trace reach the page through here only, as text; half of
 *  a surrogate pair as the sign for what is no character. */
function element(tag, ...children) {
  const made = document.createElement(tag);
  made.append(...children.map((child) => (child instanceof Node ? child : String(child).toWellFormed())));
  return made;
}

function describe(item) {
  const { title, rows } = wordsOf(item);
  const list = element("dl", ...rows.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
  return [element("b", title), list];
}

/** The nodes that an item is about. */
function concerned(item) {
  return new Set([item.node, item.sender, item.receiver, ...(item.nodes ?? [])]);
}

/** A table of what each node was at a moment. */
function clusterTable(model, time, nodes) {
  const head = element(
    "tr",
    ...["node", "state", "term", "commit", "applied"].map((name) => element("th", name)),
  );
  const rows = stateAt(model, time).map((state) => {
    const cells = [state.node, roleName(state.state), state.term, state.commit, state.apply].map((value) =>
      element("td", value),
    );
    if (nodes.has(state.node)) cells[0].className = "concerned";
    return element("tr", ...cells);
  });
  return element("table", head, ...rows);
}

/** Everything that can be found by its text. */
function searchable(model) {
  const all = [model.messages, model.marks, model.ticks, model.syncs, model.faults, model.operations].flatMap(
    (spans) => spans.items,
  );
  all.push(...model.violations);
  for (const spans of model.segments.values()) all.push(...spans.items);
  return all.sort((a, b) => a.from - b.from);
}

function textOf(item) {
  const { title, rows } = wordsOf(item);
  item.words ??= [title, ...rows.flat()].join(" ").toLowerCase();
  return item.words;
}

/** The items whose text holds all the words of `query`; `undefined` for no query. */
function search(model, query) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return undefined;
  model.searchable ??= searchable(model);
  return new Set(model.searchable.filter((item) => words.every((word) => textOf(item).includes(word))));
}
