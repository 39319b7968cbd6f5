// Ties the page together: what the reader does, and when to draw.

const byId = (id) => document.getElementById(id);
const chart = byId("chart");
const overview = byId("overview");

function makePage() {
  const model = buildModel(JSON.parse(byId("trace").textContent));
  const heartbeats = model.messages.items.filter((item) => item.family === "heartbeat").length;
  const shown = Object.fromEntries(KINDS.map(([kind]) => [kind, true]));
  shown.heartbeat = heartbeats <= MANY_HEARTBEATS;
  return {
    model,
    view: new View(model),
    theme: themeOf(),
    shown,
    drawn: [],
    base: document.createElement("canvas"),
  };
}

const page = makePage();

/** Draws before the next frame, however often it is asked. Only what depends on the pointer if `light`. */
function redraw({ light = false } = {}) {
  page.stale ||= !light;
  if (!light) {
    // What was under the pointer has moved away.
    page.hovered = undefined;
    byId("hover").hidden = true;
  }
  if (page.awaited) return;
  page.awaited = true;
  requestAnimationFrame(() => {
    page.awaited = false;
    paintAll();
  });
}

function paintAll() {
  if (page.stale) paintBase(page.base.getContext("2d"), page);
  page.stale = false;
  const pen = chart.getContext("2d");
  const ratio = window.devicePixelRatio || 1;
  pen.drawImage(page.base, 0, 0, page.base.width / ratio, page.base.height / ratio);
  paintOverlay(pen, page);
  paintOverview(overview.getContext("2d"), page);
  const { view } = page;
  byId("range").textContent =
    `${timeText(view.from, view.span / 1000)} \u2013 ${timeText(view.to, view.span / 1000)} (${durationText(view.span)})`;
  document.body.dataset.drawn ??= performance.now().toFixed(0);
}

/** Gives a canvas the pixels that a place on the screen has. */
function fit(canvas, { width, height }) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.getContext("2d").setTransform(ratio, 0, 0, ratio, 0, 0);
}

function resize() {
  const place = chart.getBoundingClientRect();
  page.view.resize(place.width, place.height);
  fit(chart, page.view);
  fit(page.base, page.view);
  fit(overview, overview.getBoundingClientRect());
  page.strip = undefined;
  redraw();
}

// Hovering and pinning.

function pointOf(event) {
  const { left, top } = chart.getBoundingClientRect();
  return { x: event.clientX - left, y: event.clientY - top };
}

function hover(point) {
  page.pointer = point;
  page.hovered = point && itemAt(page, point);
  chart.classList.toggle("over", Boolean(page.hovered));
  const box = byId("hover");
  box.hidden = !page.hovered || page.hovered === page.pinned;
  if (!box.hidden) {
    box.replaceChildren(...describe(page.hovered));
    const left =
      point.x + 16 + box.offsetWidth > page.view.width ? point.x - 16 - box.offsetWidth : point.x + 16;
    const top = Math.min(point.y + 16, page.view.height - box.offsetHeight - 4);
    box.style.left = `${Math.max(left, 4)}px`;
    box.style.top = `${Math.max(top, 4)}px`;
  }
  redraw({ light: true });
}

/** Keeps an item's contents on the page, on the side where the item is not. */
function pin(item) {
  page.pinned = item;
  const panel = byId("pinned");
  panel.hidden = !item;
  byId("hover").hidden = true;
  if (item) {
    const close = element("button", "\u00d7");
    close.className = "close";
    close.title = "Unpin (Esc)";
    close.addEventListener("click", () => pin(undefined));
    const caption = element("div", `The cluster at ${momentText(item.from)}:`);
    caption.className = "count";
    panel.replaceChildren(
      close,
      ...describe(item),
      caption,
      clusterTable(page.model, item.from, concerned(item)),
    );
    const right = page.view.x(item.from) < (GUTTER + page.view.width) / 2;
    panel.style.left = right ? "" : `${GUTTER + 8}px`;
    panel.style.right = right ? "8px" : "";
  }
  redraw({ light: true });
}

// Pointers: one drags, two pinch.

const fingers = new Map();
let travelled = 0;

function spread() {
  const [a, b] = [...fingers.values()];
  return { apart: Math.max(Math.abs(a.x - b.x), 20), middle: (a.x + b.x) / 2 };
}

function drag(event) {
  const point = pointOf(event);
  const last = fingers.get(event.pointerId);
  if (!last) return hover(point);
  const before = fingers.size === 2 ? spread() : undefined;
  fingers.set(event.pointerId, point);
  travelled += Math.abs(point.x - last.x) + Math.abs(point.y - last.y);
  if (before) {
    const after = spread();
    page.view.zoom(after.apart / before.apart, before.middle);
    page.view.move(after.middle - before.middle, 0);
  } else if (travelled > 4) {
    chart.classList.add("dragged");
    page.view.move(point.x - last.x, point.y - last.y);
  }
  byId("hover").hidden = true;
  page.pointer = point;
  return redraw();
}

function release(event) {
  if (!fingers.delete(event.pointerId)) return;
  chart.classList.remove("dragged");
  if (event.type === "pointerup" && travelled <= 4) pin(itemAt(page, pointOf(event)));
}

function wheelFactor(event) {
  const pixels = event.deltaY * (event.deltaMode === 1 ? 30 : 1);
  return Math.exp(-Math.min(Math.max(pixels, -240), 240) * (event.ctrlKey ? 0.01 : 0.002));
}

function wheel(event) {
  event.preventDefault();
  const point = pointOf(event);
  if (event.shiftKey) page.view.move(0, -(event.deltaY || event.deltaX));
  else if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) page.view.move(-event.deltaX, 0);
  else page.view.zoom(wheelFactor(event), Math.max(point.x, GUTTER));
  redraw();
}

function listenToChart() {
  chart.addEventListener("pointerdown", (event) => {
    chart.setPointerCapture(event.pointerId);
    if (!fingers.size) travelled = 0;
    fingers.set(event.pointerId, pointOf(event));
  });
  chart.addEventListener("pointermove", drag);
  chart.addEventListener("pointerup", release);
  chart.addEventListener("pointercancel", release);
  chart.addEventListener("pointerleave", () => hover(undefined));
  chart.addEventListener("wheel", wheel, { passive: false });
}

// Keys and buttons.

function zoomBy(factor) {
  page.view.zoom(factor, page.pointer?.x ?? (GUTTER + page.view.width) / 2);
}

/** Shows a moment, from no farther off than is useful, and pins what happened there. */
function goTo(time, item) {
  const { view } = page;
  if (view.span > 2 * usefulSpan(view, time)) openAt(view, time);
  else view.center(time);
  if (item) pin(item);
  redraw();
}

/** To the violation; asked once more, to the next one. */
function toViolation() {
  const { violations, bounds, trace } = page.model;
  const next = violations[(violations.indexOf(page.pinned) + 1) % violations.length];
  if (next) goTo(next.at, next);
  else if (trace.failure) goTo(bounds.to);
}

const KEYS = {
  "+": () => zoomBy(1.5),
  "=": () => zoomBy(1.5),
  "-": () => zoomBy(1 / 1.5),
  ArrowLeft: () => page.view.move(page.view.width / 6, 0),
  ArrowRight: () => page.view.move(-page.view.width / 6, 0),
  ArrowUp: () => page.view.move(0, 60),
  ArrowDown: () => page.view.move(0, -60),
  0: () => page.view.all(),
  v: toViolation,
  l: () => byId("legend").toggleAttribute("hidden"),
  "/": () => byId("search").focus(),
  Escape: () => pin(undefined),
};

function key(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target === byId("search")) return;
  const act = KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
  redraw();
}

function listenToButtons() {
  document.addEventListener("keydown", key);
  const on = (id, act) =>
    byId(id).addEventListener("click", () => {
      act();
      redraw();
    });
  on("zoom-in", () => page.view.zoom(1.5, (GUTTER + page.view.width) / 2));
  on("zoom-out", () => page.view.zoom(1 / 1.5, (GUTTER + page.view.width) / 2));
  on("to-legend", KEYS.l);
  on("zoom-all", () => page.view.all());
  on("to-violation", toViolation);
  on("next", () => step(1));
  on("previous", () => step(-1));
}

// The search.

function find() {
  page.matches = search(page.model, byId("search").value);
  page.found = [...(page.matches ?? [])];
  page.place = -1;
  page.strip = undefined;
  tellFound();
  redraw();
}

function tellFound() {
  const place = page.place >= 0 ? `${page.place + 1} of ` : "";
  byId("found").textContent = page.matches ? `${place}${page.found.length} found` : "";
  byId("next").hidden = byId("previous").hidden = !page.matches;
}

/** Pins the next match and brings it into view; the first one is the first after the left edge. */
function step(by) {
  if (!page.found?.length) return;
  if (page.place < 0 && by > 0)
    page.place =
      Math.max(
        page.found.findIndex((item) => item.from >= page.view.from),
        0,
      ) - 1;
  page.place = (page.place + by + page.found.length) % page.found.length;
  const item = page.found[page.place];
  if (item.from < page.view.from || item.from > page.view.to) page.view.center(item.from);
  pin(item);
  tellFound();
}

function listenToSearch() {
  byId("search").addEventListener("input", find);
  byId("search").addEventListener("keydown", (event) => {
    if (event.key === "Enter") step(event.shiftKey ? -1 : 1);
    if (event.key === "Escape") {
      byId("search").value = "";
      find();
      chart.focus();
    }
  });
  tellFound();
}

function dress() {
  page.theme = themeOf();
  page.strip = undefined;
  makeCheckBoxes();
  makeLegend();
  redraw();
}

function begin() {
  makeHeader();
  // Where there is little height the lanes need it more.
  byId("legend").hidden = window.innerHeight < 640;
  dress();
  listenToChart();
  listenToOverview();
  listenToButtons();
  listenToSearch();
  new ResizeObserver(resize).observe(chart);
  window.addEventListener("resize", resize);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", dress);
  resize();
  openView(page.view);
  // Not with the next frame: whoever opened the page sees it at once.
  paintAll();
}

begin();
