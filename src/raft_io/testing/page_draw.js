// Draws the part of the run that the view shows. A painter is (pen, page): the canvas, and what the page knows.

const FONT = "12px system-ui, sans-serif";
const SMALL = "11px system-ui, sans-serif";
const DIM = 0.13;

/** How strongly an item is drawn: while a search is on, what does not match is faint. */
function strength(page, item) {
  return page.matches && !page.matches.has(item) ? DIM : 1;
}

/** The visible part of a span, in pixels. */
function extent(view, item) {
  const left = Math.max(view.x(item.from), GUTTER - 2);
  return { left, width: Math.min(view.x(item.to), view.width + 2) - left };
}

function paintGrid(pen, { view, theme }) {
  const step = axisStep(view, 110);
  pen.strokeStyle = theme.line;
  pen.lineWidth = 1;
  pen.beginPath();
  for (let mark = Math.ceil(view.from / step); mark * step <= view.to; mark++) {
    const x = Math.round(view.x(mark * step)) + 0.5;
    pen.moveTo(x, AXIS);
    pen.lineTo(x, view.height);
  }
  pen.stroke();
}

function paintAxis(pen, { view, theme, pointer }) {
  const step = axisStep(view, 110);
  pen.fillStyle = theme.background;
  pen.fillRect(0, 0, view.width, AXIS);
  pen.fillStyle = theme.muted;
  pen.font = SMALL;
  pen.textAlign = "center";
  for (let mark = Math.ceil(view.from / step); mark * step <= view.to; mark++) {
    const x = view.x(mark * step);
    if (x >= GUTTER) pen.fillText(timeText(mark * step, step), x, AXIS / 2);
  }
  pen.textAlign = "left";
  if (!pointer || pointer.x < GUTTER) return;
  const text = timeText(view.timeAt(pointer.x), step / 100);
  const width = pen.measureText(text).width + 10;
  const left = Math.min(Math.max(pointer.x - width / 2, GUTTER), view.width - width);
  pen.fillStyle = theme.text;
  pen.fillRect(left, 3, width, AXIS - 6);
  pen.fillStyle = theme.background;
  pen.fillText(text, left + 5, AXIS / 2);
}

function faultColour(theme, alpha) {
  return `color-mix(in srgb, ${theme.fault} ${alpha}%, transparent)`;
}

/** Faults tint the lanes of the nodes concerned; each has its bar above the lanes. */
function paintFaults(pen, page) {
  const { view, theme, model } = page;
  if (!page.shown.fault) return;
  pen.font = SMALL;
  for (const fault of model.faults.within(view.from, view.to)) {
    const { left, width } = extent(view, fault);
    const y = view.layout.faults + fault.row * FAULT_ROW - view.scroll;
    pen.globalAlpha = strength(page, fault);
    paintFaultLanes(pen, page, fault.nodes ?? [], left, width, 9);
    pen.fillStyle = faultColour(theme, 28);
    pen.fillRect(left, y, Math.max(width, 2), FAULT_ROW - 3);
    pen.fillStyle = theme.fault;
    pen.fillRect(left, y, 2, FAULT_ROW - 3);
    paintClipped(pen, fault.text, left + 6, y, width - 8, FAULT_ROW - 3, theme.text);
  }
  pen.globalAlpha = 1;
}

function paintFaultLanes(pen, { view, theme }, nodes, left, width, alpha) {
  pen.fillStyle = faultColour(theme, alpha);
  for (const node of nodes) {
    const lane = view.layout.lane.get(node);
    if (lane !== undefined) pen.fillRect(left, lane - 5 - view.scroll, width, BAND + TRACK + 8);
  }
}

/** As much of a text as there is room for, with an ellipsis; nothing if that is next to nothing. */
function paintClipped(pen, text, x, y, width, height, colour, rim) {
  if (width < 16) return;
  let shown = text.length > 300 ? text.slice(0, 300) : text;
  if (pen.measureText(shown).width > width) {
    const part = Math.floor((shown.length * (width - 8)) / pen.measureText(shown).width);
    if (part < 2) return;
    shown = shown.slice(0, part) + "\u2026";
  }
  paintRimmed(pen, shown, x, y + height / 2 + 0.5, colour, rim);
}

/** Text with a rim in the colour of what it stands on, so that it is read over stripes and lines. */
function paintRimmed(pen, text, x, y, colour, rim) {
  if (rim) {
    pen.strokeStyle = rim;
    pen.lineWidth = 4;
    pen.lineJoin = "round";
    pen.strokeText(text, x, y);
  }
  pen.fillStyle = colour;
  pen.fillText(text, x, y);
}

function operationLook(theme, operation) {
  const open = !operation.returned || operation.result === undefined;
  return { open, edge: open ? theme.fault : theme.leader };
}

function operationText(operation) {
  const result = operation.returned ? (operation.result ?? "unknown") : "no return";
  return `${operation.text} \u2192 ${result}`;
}

function paintOperations(pen, page) {
  const { view, theme, model } = page;
  if (!page.shown.client) return;
  pen.font = SMALL;
  for (const operation of model.operations.within(view.from, view.to)) {
    const { left, width } = extent(view, operation);
    const y = view.layout.client + operation.row * CLIENT_ROW - view.scroll;
    const { open, edge } = operationLook(theme, operation);
    pen.globalAlpha = strength(page, operation);
    pen.fillStyle = theme.operation;
    if (open) stripes(pen, edge, left, y, width, CLIENT_ROW - 4, 6);
    else pen.fillRect(left, y, Math.max(width, 1), CLIENT_ROW - 4);
    pen.fillStyle = edge;
    pen.fillRect(left, y, 1.5, CLIENT_ROW - 4);
    if (open) pen.setLineDash([3, 3]);
    pen.strokeStyle = edge;
    pen.lineWidth = 1;
    pen.strokeRect(left + 0.5, y + 0.5, Math.max(width - 1, 0), CLIENT_ROW - 5);
    pen.setLineDash([]);
    const rim = open && theme.background;
    paintClipped(pen, operationText(operation), left + 6, y, width - 9, CLIENT_ROW - 4, theme.text, rim);
  }
  pen.globalAlpha = 1;
}

function paintViolations(pen, { view, theme, model }) {
  pen.font = "600 12px system-ui, sans-serif";
  for (const violation of model.violations) {
    const x = view.x(violation.at);
    if (x < GUTTER || x > view.width + 400) continue;
    pen.fillStyle = theme.violation;
    pen.fillRect(x - 1.5, AXIS, 3, view.height);
    pen.strokeStyle = theme.violation;
    pen.lineWidth = 3;
    for (const node of violation.nodes ?? []) {
      const lane = view.layout.lane.get(node);
      if (lane !== undefined) pen.strokeRect(x - 7, lane - 4 - view.scroll, 14, BAND + 8);
    }
    const width = Math.min(pen.measureText(violation.text).width + 12, (view.width - GUTTER) * 0.6);
    const left = Math.max(Math.min(x - 1.5, view.width - width), GUTTER);
    pen.fillStyle = theme.alarm;
    pen.fillRect(left, AXIS, width, 17);
    paintClipped(pen, violation.text, left + 6, AXIS, width - 8, 17, "#ffffff");
  }
}

/** The names of the lanes, over whatever reaches to the left of the chart. */
function paintGutter(pen, { view, theme, model }) {
  pen.fillStyle = theme.background;
  pen.fillRect(0, AXIS, GUTTER, view.height);
  pen.fillStyle = theme.line;
  pen.fillRect(GUTTER - 1, AXIS, 1, view.height);
  pen.font = "600 12px system-ui, sans-serif";
  for (const node of model.nodes) {
    paintClipped(
      pen,
      `node ${node}`,
      8,
      view.layout.lane.get(node) - view.scroll,
      GUTTER - 10,
      BAND,
      theme.text,
    );
  }
  pen.font = SMALL;
  if (model.faultRows)
    paintClipped(pen, "faults", 8, view.layout.faults - view.scroll, GUTTER - 10, FAULT_ROW - 3, theme.muted);
  model.clientRows.forEach((name, row) => {
    paintClipped(
      pen,
      name,
      8,
      view.layout.client + row * CLIENT_ROW - view.scroll,
      GUTTER - 10,
      CLIENT_ROW - 4,
      theme.muted,
    );
  });
}

/** What is under the pointer, and what is pinned, once more and strongly. */
function paintChosen(pen, page, item) {
  const { view, theme } = page;
  if (!item) return;
  if (item.kind === "fault") {
    const nodes = new Set([...(item.nodes ?? []), ...(item.links ?? []).flat()]);
    const { left, width } = extent(view, item);
    paintFaultLanes(pen, page, nodes, left, width, 25);
  }
  pen.strokeStyle = theme.text;
  pen.lineWidth = 2;
  if (item.kind === "message") {
    pen.lineWidth = 3;
    paintArrows(pen, page, [item], theme[item.family], true);
    const { x0, y0 } = pathOf(view, item);
    pen.beginPath();
    pen.arc(x0, y0, 4, 0, 7);
    pen.fill();
    return;
  }
  const box = item.kind !== "violation" && boxOf(view, item);
  if (box) pen.strokeRect(box.left, box.top, box.width, box.height);
}

/** Where the chart is scrolled to, if it is higher than its place. */
function paintScrollBar(pen, { view, theme }) {
  const { total } = view.layout;
  if (total <= view.height) return;
  const room = view.height - AXIS;
  pen.fillStyle = theme.muted;
  pen.globalAlpha = 0.5;
  pen.fillRect(view.width - 6, AXIS + (view.scroll / total) * room, 4, (view.height / total) * room);
  pen.globalAlpha = 1;
}

function paintPointer(pen, { view, theme, pointer }) {
  if (!pointer || pointer.x < GUTTER) return;
  pen.fillStyle = theme.muted;
  pen.globalAlpha = 0.5;
  pen.fillRect(Math.round(pointer.x), AXIS, 1, view.height);
  pen.globalAlpha = 1;
}

const PAINTERS = [
  // Messages pass behind the lanes between their ends.
  ...[paintGrid, paintFaults, paintMessages, paintLanes, paintTracks, paintOperations, paintSegmentText],
  ...[paintMarks, paintMessageNames, paintViolations, paintGutter, paintScrollBar],
];

/** All that stays while the pointer moves about. */
function paintBase(pen, page) {
  const { view, theme } = page;
  pen.fillStyle = theme.background;
  pen.fillRect(0, 0, view.width, view.height);
  pen.textBaseline = "middle";
  if (!page.model.trace.events.length) {
    pen.font = FONT;
    paintRimmed(pen, "Nothing happened in this run.", GUTTER + 24, AXIS + 24, theme.muted);
  }
  for (const painter of PAINTERS) painter(pen, page);
}

/** What depends on the pointer, over the base. */
function paintOverlay(pen, page) {
  pen.textBaseline = "middle";
  pen.save();
  pen.beginPath();
  pen.rect(GUTTER, AXIS, page.view.width, page.view.height);
  pen.clip();
  paintPointer(pen, page);
  paintChosen(pen, page, page.pinned);
  paintChosen(pen, page, page.hovered);
  pen.restore();
  paintAxis(pen, page);
}
