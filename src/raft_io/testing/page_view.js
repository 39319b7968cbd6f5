// What part of the run is shown, and where on the chart things are.

const GUTTER = 72;
const AXIS = 24;
const FAULT_ROW = 17;
const BAND = 20;
const TRACK = 13;
const CLIENT_ROW = 20;

/** The part of the run that the chart shows, in seconds, and how far it is scrolled, in pixels. */
class View {
  constructor(model) {
    this.model = model;
    this.width = 100;
    this.height = 100;
    this.scroll = 0;
    this.show(model.bounds.from, model.bounds.to);
  }

  show(from, to) {
    const { bounds } = this.model;
    const whole = bounds.to - bounds.from;
    const span = Math.min(Math.max(to - from, whole * 1e-7, 1e-6), whole * 1.1);
    const margin = Math.min(span * 0.5, whole * 0.05 + span * 0.3);
    const middle = (from + to) / 2;
    this.from = Math.min(Math.max(middle - span / 2, bounds.from - margin), bounds.to + margin - span);
    this.to = this.from + span;
  }

  all() {
    const { from, to } = this.model.bounds;
    this.show(from - (to - from) * 0.01, to + (to - from) * 0.03);
  }

  get span() {
    return this.to - this.from;
  }

  x(time) {
    return GUTTER + ((time - this.from) / this.span) * (this.width - GUTTER);
  }

  timeAt(x) {
    return this.from + ((x - GUTTER) / (this.width - GUTTER)) * this.span;
  }

  zoom(factor, x) {
    const time = this.timeAt(x);
    const before = time - this.from;
    const span = this.span / factor;
    this.show(time - before / factor, time - before / factor + span);
  }

  move(dx, dy) {
    const seconds = (dx / (this.width - GUTTER)) * this.span;
    this.show(this.from - seconds, this.to - seconds);
    this.scroll = Math.min(Math.max(this.scroll - dy, 0), Math.max(this.layout.total - this.height, 0));
  }

  center(time) {
    this.show(time - this.span / 2, time + this.span / 2);
  }

  resize(width, height) {
    this.width = Math.max(width, GUTTER + 50);
    this.height = height;
    this.layout = layoutOf(this.model, height);
    this.move(0, 0);
  }
}

/** The vertical places, before scrolling. Lanes share the height that there is, down to a least one. */
function layoutOf(model, height) {
  const faults = AXIS + (model.violations.length ? 18 : 4);
  const lanes = faults + model.faultRows * FAULT_ROW + 8;
  const clients = model.clientRows.length * CLIENT_ROW + 4;
  const count = Math.max(model.nodes.length, 1);
  const room = height - lanes - clients - BAND - TRACK - 16;
  const pitch = Math.min(Math.max(room / Math.max(count - 1, 1), BAND + TRACK + 20), 140);
  const lane = new Map(model.nodes.map((node, number) => [node, lanes + number * pitch]));
  const client = lanes + (count - 1) * pitch + BAND + TRACK + 16;
  return { faults, lane, pitch, client, total: client + clients };
}

/** Where a message runs on the chart: its ends, and whether it came through. */
function pathOf(view, item) {
  const { lane } = view.layout;
  const start = lane.get(item.sender);
  const target = lane.get(item.receiver);
  const down = target > start;
  const y0 = start + (down ? BAND : 0) - view.scroll;
  const y1 = target + (down ? 0 : BAND) - view.scroll;
  const x0 = view.x(item.from);
  const x1 = view.x(item.to);
  if (!item.lost || item.lost === "receiver down") return { x0, y0, x1, y1 };
  // One that was lost under way ends short of its receiver: it is seen where it was going to.
  const short = y1 + ((view.layout.pitch - BAND) / 2) * (down ? -1 : 1);
  const part = item.lost_at === undefined ? (short - y0) / (y1 - y0) : 1;
  return { x0, y0, x1: x0 + (x1 - x0) * part, y1: short };
}

function weighty(model) {
  model.weighty ??= new Spans(model.messages.items.filter((item) => item.family !== "heartbeat"));
  return model.weighty;
}

/** The time before a moment, in seconds, in which arrows can be told apart by their number and their slope. */
function usefulSpan({ model }, time) {
  const { bounds, typical } = model;
  const messages = weighty(model);
  const before = messages.before(time);
  const reach = (count) => time - (messages.items[Math.max(before - count, 0)]?.from ?? bounds.from);
  return Math.max(Math.min(reach(120), typical * 120), reach(25), (bounds.to - bounds.from) / 1e4);
}

function openAt(view, time) {
  const { bounds } = view.model;
  const span = usefulSpan(view, time);
  view.show(time - span, Math.min(time + span * 0.3, Math.max(bounds.to, time) + span * 0.06));
}

/** The part to open with: all if that is little; else around the violation, or at the beginning. */
function openView(view) {
  const { bounds, violations, trace, typical } = view.model;
  const { items } = weighty(view.model);
  const time = violations[0]?.at ?? (trace.failure ? bounds.to : undefined);
  if (items.length <= 60) view.all();
  else if (time === undefined) view.show(bounds.from, Math.max(items[60].to, bounds.from + typical * 100));
  else openAt(view, time);
}

/** A time with as many digits as `step` asks for. */
function timeText(time, step) {
  const digits = Math.min(Math.max(Math.ceil(-Math.log10(step) - 1e-9), 0), 9);
  return `${time.toFixed(digits)} s`;
}

function durationText(seconds) {
  if (seconds >= 1) return `${+seconds.toPrecision(4)} s`;
  if (seconds >= 1e-3) return `${+(seconds * 1e3).toPrecision(4)} ms`;
  return `${+(seconds * 1e6).toPrecision(4)} \u00b5s`;
}

/** A round step that puts marks on the axis at least `pixels` apart. */
function axisStep(view, pixels) {
  const least = (pixels / (view.width - GUTTER)) * view.span;
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((times) => times * power).find((step) => step >= least) ?? 10 * power;
}

/** The colours of the page's style, which follow the reader's preference. */
function themeOf() {
  const style = getComputedStyle(document.documentElement);
  return new Proxy(
    {},
    {
      get(known, name) {
        known[name] ??= style.getPropertyValue("--" + name).trim();
        return known[name];
      },
    },
  );
}
