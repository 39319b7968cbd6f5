// Draws the lanes of the nodes: what each is, how far its log and its disk are, what happens to it.

const ROLE_NAMES = { pre_candidate: "pre-candidate", absent: "not started" };
const STRIPED = { pre_candidate: 5, paused: 7, learner: 9 };

function roleName(state) {
  return ROLE_NAMES[state] ?? state;
}

function stripes(pen, colour, x, y, width, height, gap) {
  pen.save();
  pen.beginPath();
  pen.rect(x, y, width, height);
  pen.clip();
  pen.strokeStyle = colour;
  pen.lineWidth = 1;
  pen.beginPath();
  for (let at = x - height - (x % gap); at < x + width; at += gap) {
    pen.moveTo(at, y + height);
    pen.lineTo(at + height, y);
  }
  pen.stroke();
  pen.restore();
}

/** A stretch of a lane in its role's colour; a node that is down has only a line. */
function paintState(pen, theme, state, x, y, width, height) {
  if (state === "down" || state === "absent") {
    pen.strokeStyle = theme.muted;
    pen.lineWidth = 1;
    pen.setLineDash([2, 4]);
    pen.beginPath();
    pen.moveTo(x, y + height / 2);
    pen.lineTo(x + width, y + height / 2);
    pen.stroke();
    pen.setLineDash([]);
    return;
  }
  pen.fillStyle = theme[state] || theme.other;
  pen.fillRect(x, y, Math.max(width, 1), height);
  if (STRIPED[state]) stripes(pen, theme.muted, x, y, width, height, STRIPED[state]);
}

function paintLanes(pen, { view, theme, model }) {
  for (const node of model.nodes) {
    const y = view.layout.lane.get(node) - view.scroll;
    pen.fillStyle = theme.line;
    pen.fillRect(GUTTER, y + BAND + TRACK, view.width, 0.5);
    const { items } = model.segments.get(node);
    if (!items.length) paintState(pen, theme, "absent", GUTTER, y, view.width, BAND);
    for (const segment of model.segments.get(node).within(view.from, view.to)) {
      const { left, width } = extent(view, segment);
      paintState(pen, theme, segment.state, left, y, width, BAND);
    }
  }
}

/** What a stretch of a lane is called, in the longest way for which there is room. */
function segmentText(pen, segment, width) {
  const name = roleName(segment.state);
  const known = segment.term !== undefined && segment.state !== "down";
  const choices = known
    ? [`${name}, term ${segment.term}`, `term ${segment.term}`, `t${segment.term}`, `${segment.term}`]
    : [name];
  return choices.find((text) => pen.measureText(text).width + 10 <= width);
}

function paintSegmentText(pen, { view, theme, model }) {
  pen.font = FONT;
  for (const node of model.nodes) {
    const y = view.layout.lane.get(node) - view.scroll;
    const spans = model.segments.get(node);
    if (!spans.items.length) paintOnBand(pen, theme, "absent", "never started", GUTTER + 6, y + BAND / 2);
    for (const segment of spans.within(view.from, view.to)) {
      const { left, width } = extent(view, segment);
      const shift = besideSigns(view, model.lives.get(node), left);
      const text = width > 12 && segmentText(pen, segment, width - shift);
      if (text) paintOnBand(pen, theme, segment.state, text, left + 5 + shift, y + BAND / 2 + 0.5);
    }
  }
}

/** How far to the right of `left` a text has to begin so that no sign stands on it. */
function besideSigns(view, lives, left) {
  const time = view.timeAt(left);
  const margin = (12 / view.width) * view.span;
  const near = lives?.within(time - margin, time + margin) ?? [];
  return Math.max(0, ...near.map((mark) => view.x(mark.at) + 8 - left));
}

/** Text on a lane. */
function paintOnBand(pen, theme, state, text, x, y) {
  if (state === "down" || state === "absent") paintRimmed(pen, text, x, y, theme.muted, theme.background);
  else paintRimmed(pen, text, x, y, theme[`on-${state}`] || theme["on-role"], theme[state] || theme.other);
}

/** Below each band: syncs as bars, commits as the upper ticks, applies as the lower ones. */
function paintTracks(pen, page) {
  const { view, theme, model, shown } = page;
  pen.font = SMALL;
  const syncs = shown.sync ? model.syncs.within(view.from, view.to) : [];
  for (const sync of thinned(page, syncs, 1, (item) => `${item.node} ${item.outcome}`)) {
    const { left, width } = extent(view, sync);
    const y = view.layout.lane.get(sync.node) + BAND + 10 - view.scroll;
    pen.globalAlpha = strength(page, sync);
    pen.fillStyle = sync.outcome === "done" || sync.outcome === "not done" ? theme.sync : theme.violation;
    pen.fillRect(left, y, Math.max(width, 1), 3);
  }
  const ticks = shown.progress ? model.ticks.within(view.from, view.to) : [];
  const written = ticks.length < 60;
  for (const tick of thinned(page, ticks, 1, (item) => `${item.node} ${item.what}`)) {
    const x = view.x(tick.at);
    const y = view.layout.lane.get(tick.node) + BAND + (tick.what === "commit" ? 0 : 5) - view.scroll;
    pen.globalAlpha = strength(page, tick);
    pen.fillStyle = theme[tick.what];
    pen.fillRect(x - 0.75, y, 1.5, 5);
    if (written && tick.what === "commit") paintOnBand(pen, theme, "absent", `${tick.index}`, x + 4, y + 6);
  }
  pen.globalAlpha = 1;
}

/** The signs of what happens to a node, around 0, 0. */
const SIGNS = {
  start: (pen) => poly(pen, [-4, 5, 5, 0, -4, -5]),
  resume: (pen) => poly(pen, [-4, 5, 5, 0, -4, -5]),
  kill: (pen) => strokes(pen, [-4, -4, 4, 4], [-4, 4, 4, -4]),
  crash: (pen) => poly(pen, [2, -7, -5, 1, -0.5, 1, -2, 7, 5, -1.5, 0.5, -1.5]),
  wipe: (pen) => {
    pen.arc(0, 0, 5, 0, 7);
    pen.stroke();
    strokes(pen, [-5, 5, 5, -5]);
  },
  pause: (pen) => strokes(pen, [-2.5, -4, -2.5, 4], [2.5, -4, 2.5, 4]),
  "snapshot taken": (pen) => poly(pen, [0, -5.5, 5.5, 0, 0, 5.5, -5.5, 0]),
  "snapshot restored": (pen) => strokes(pen, [0, -5.5, 5.5, 0, 0, 5.5, -5.5, 0, 0, -5.5]),
  members: (pen) => strokes(pen, [-4, 6, -4, -5, 5, -2, -4, 1]),
};
const GOOD = new Set(["start", "resume"]);

function poly(pen, points) {
  for (let at = 0; at < points.length; at += 2) pen.lineTo(points[at], points[at + 1]);
  pen.closePath();
  pen.fill();
}

function strokes(pen, ...lines) {
  for (const points of lines) {
    pen.moveTo(points[0], points[1]);
    for (let at = 2; at < points.length; at += 2) pen.lineTo(points[at], points[at + 1]);
  }
  pen.stroke();
}

function signOf(mark) {
  return mark.kind === "members" ? "members" : mark.what;
}

function signColour(theme, sign) {
  if (sign === "members" || sign.startsWith("snapshot")) return theme.snapshot;
  return GOOD.has(sign) ? theme.append : sign === "pause" ? theme.text : theme.violation;
}

/** A sign on a disk of the background, so that it is seen on any lane. */
function paintSign(pen, theme, sign, x, y, scale = 1) {
  pen.save();
  pen.translate(x, y);
  pen.scale(scale, scale);
  pen.fillStyle = theme.background;
  pen.beginPath();
  pen.arc(0, 0, 8.5, 0, 7);
  pen.fill();
  pen.fillStyle = pen.strokeStyle = signColour(theme, sign);
  pen.lineWidth = 2;
  pen.beginPath();
  (SIGNS[sign] ?? SIGNS.kill)(pen);
  pen.restore();
}

/** Where a mark stands: what happens to a node on its band, what happens to its data just below. */
function markPlace(view, mark) {
  const below = mark.kind !== "life";
  return {
    x: view.x(mark.at),
    y: view.layout.lane.get(mark.node) + (below ? BAND + 6 : BAND / 2) - view.scroll,
  };
}

function paintMarks(pen, page) {
  const marks = page.model.marks.within(page.view.from, page.view.to);
  const scale = Math.min(Math.max(60 / marks.length, 0.6), 1);
  for (const mark of marks) {
    const { x, y } = markPlace(page.view, mark);
    pen.globalAlpha = strength(page, mark);
    paintSign(pen, page.theme, signOf(mark), x, y, scale);
  }
  pen.globalAlpha = 1;
}
