// Draws the messages: arrows from lane to lane, which pass behind the lanes between.

/** The messages of the view that are not hidden. If they are many, one is kept of those that look alike and
 *  would fall on the same few pixels. */
function messagesShown(page) {
  const { view, model, shown } = page;
  const visible = model.messages.within(view.from, view.to).filter((item) => isShown(shown, item));
  if (visible.length < 3000) return visible;
  const key = (item) => `${item.family} ${item.sender} ${item.receiver} ${item.lost ?? ""}`;
  return thinned(page, visible, visible.length < 10000 ? 2 : 4, key);
}

/** Of items with the same key that begin within the same `pixels` only the first, and all that match a search. */
function thinned({ view, matches }, items, pixels, keyOf) {
  const last = new Map();
  return items.filter((item) => {
    if (matches?.has(item)) return true;
    const key = keyOf(item);
    const place = Math.floor(view.x(item.from) / pixels);
    if (last.get(key) === place) return false;
    last.set(key, place);
    return true;
  });
}

function isShown(shown, item) {
  return shown[item.family] && (shown.reply || !item.reply) && (shown.lost || !item.lost);
}

function paintMessages(pen, page) {
  const messages = messagesShown(page);
  page.drawn = messages;
  const heads = messages.length < 2500;
  const crowd = Math.min(Math.max(900 / Math.max(messages.length, 1), 0.3), 1);
  const groups = grouped(
    messages,
    (item) => `${item.family} ${item.reply} ${item.lost ? 1 : 0} ${strength(page, item)}`,
  );
  // Faint kinds first, so that they lie below.
  const rank = (item) =>
    (item.family === "heartbeat" ? 0 : 1) + (item.lost ? 1 : 0) + strength(page, item) * 10;
  for (const group of [...groups.values()].sort((a, b) => rank(a[0]) - rank(b[0]))) {
    const [first] = group;
    const faint = first.family === "heartbeat" ? 0.5 : first.reply ? 0.75 : 1;
    pen.globalAlpha = strength(page, first) * (page.matches ? 1 : crowd * faint);
    pen.lineWidth = page.matches?.has(first) ? 2 : first.family === "heartbeat" || first.reply ? 1 : 1.4;
    paintArrows(pen, page, group, page.theme[first.family], heads);
  }
  pen.globalAlpha = 1;
}

/** Messages of one look, in one stroke. */
function paintArrows(pen, { view }, group, colour, heads) {
  const paths = group.map((item) => pathOf(view, item));
  const { lost } = group[0];
  pen.strokeStyle = pen.fillStyle = colour;
  pen.setLineDash(lost ? [4, 3] : []);
  pen.beginPath();
  for (const path of paths) {
    pen.moveTo(path.x0, path.y0);
    pen.lineTo(path.x1, path.y1);
  }
  pen.stroke();
  pen.setLineDash([]);
  if (!heads) return;
  pen.beginPath();
  for (const path of paths) (lost ? addCross : addHead)(pen, path);
  if (lost) pen.stroke();
  else pen.fill();
}

function addHead(pen, { x0, y0, x1, y1 }) {
  const length = Math.hypot(x1 - x0, y1 - y0) || 1;
  const [dx, dy] = [((x1 - x0) / length) * 7, ((y1 - y0) / length) * 7];
  pen.moveTo(x1, y1);
  pen.lineTo(x1 - dx - dy * 0.4, y1 - dy + dx * 0.4);
  pen.lineTo(x1 - dx + dy * 0.4, y1 - dy - dx * 0.4);
}

function addCross(pen, { x1, y1 }) {
  pen.moveTo(x1 - 4, y1 - 4);
  pen.lineTo(x1 + 4, y1 + 4);
  pen.moveTo(x1 - 4, y1 + 4);
  pen.lineTo(x1 + 4, y1 - 4);
}

/** The names of messages beside their arrows, when there are so few that it helps. One that would stand on
 *  another is left out. */
function paintMessageNames(pen, page) {
  if (page.drawn.length > 40) return;
  pen.font = SMALL;
  const taken = [];
  for (const item of page.drawn) {
    const width = pen.measureText(item.what).width;
    const { x, y } = namePlace(page.view, item, width);
    const clash = (other) => Math.abs(other.y - y) < 14 && x < other.end && other.x < x + width;
    if (x < GUTTER || taken.some(clash)) continue;
    taken.push({ x, y, end: x + width });
    pen.globalAlpha = strength(page, item);
    paintRimmed(pen, item.what, x, y, page.theme[item.family], page.theme.background);
  }
  pen.globalAlpha = 1;
}

/** Beside the arrow, at the end that the messages of one round do not share: that of the node that is asked. */
function namePlace(view, item, width) {
  const { x0, y0, x1, y1 } = pathOf(view, item);
  const [dx, dy] = [x1 - x0, y1 - y0];
  const away = Math.min(((view.layout.pitch - BAND) * 0.5) / Math.abs(dy || 1), 0.6);
  const underWay = item.lost && item.lost !== "receiver down";
  const part = underWay ? 1 : item.reply ? away : 1 - away;
  const flat = Math.abs(dx) > 2 * Math.abs(dy);
  return { x: x0 + dx * part + (flat ? -width / 2 : 7), y: y0 + dy * part - (flat ? 9 : 0) };
}
