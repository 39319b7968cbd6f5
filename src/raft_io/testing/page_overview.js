// The overview: the whole run in a strip, with a frame around what the chart shows.

function stripX(time, width) {
  const { from, to } = page.model.bounds;
  return GUTTER + ((time - from) / (to - from)) * (width - GUTTER);
}

/** All that does not change while the reader moves about, drawn once and kept. */
function makeStrip(width, height, ratio) {
  const strip = document.createElement("canvas");
  strip.width = overview.width;
  strip.height = overview.height;
  const pen = strip.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  const { model, theme, matches } = page;
  const place = (item) => [
    stripX(item.from, width),
    Math.max(stripX(item.to, width) - stripX(item.from, width), 1),
  ];
  for (const fault of model.faults.items) {
    const [x, long] = place(fault);
    pen.fillStyle = faultColour(theme, 30);
    pen.fillRect(x, 0, long, height);
  }
  const pitch = Math.max((height - 8) / Math.max(model.nodes.length, 1), 1);
  model.nodes.forEach((node, number) => {
    for (const segment of model.segments.get(node).items) {
      const [x, long] = place(segment);
      paintState(pen, theme, segment.state, x, 6 + number * pitch, long, Math.max(pitch - 2, 1));
    }
  });
  pen.fillStyle = theme.text;
  for (const item of matches ?? []) pen.fillRect(stripX(item.from, width), 0, 1.5, 5);
  pen.fillStyle = theme.violation;
  for (const violation of model.violations) pen.fillRect(stripX(violation.at, width) - 1, 0, 3, height);
  return strip;
}

function paintOverview(pen, { view, theme }) {
  const { width, height } = overview.getBoundingClientRect();
  page.strip ??= makeStrip(width, height, overview.width / width);
  pen.fillStyle = theme.panel;
  pen.fillRect(0, 0, width, height);
  pen.drawImage(page.strip, 0, 0, width, height);
  pen.fillStyle = theme.muted;
  pen.font = SMALL;
  pen.textBaseline = "middle";
  pen.fillText("whole run", 8, height / 2);
  const left = Math.max(stripX(view.from, width), GUTTER);
  const right = Math.min(stripX(view.to, width), width);
  pen.globalAlpha = 0.55;
  pen.fillStyle = theme.background;
  pen.fillRect(GUTTER, 0, left - GUTTER, height);
  pen.fillRect(right, 0, width - right, height);
  pen.globalAlpha = 1;
  pen.strokeStyle = theme.text;
  pen.lineWidth = 2;
  pen.strokeRect(left, 1, Math.max(right - left, 3), height - 2);
}

function moveTo(event) {
  const { left, width } = overview.getBoundingClientRect();
  const { from, to } = page.model.bounds;
  page.view.center(from + ((event.clientX - left - GUTTER) / (width - GUTTER)) * (to - from));
  redraw();
}

function listenToOverview() {
  overview.addEventListener("pointerdown", (event) => {
    overview.setPointerCapture(event.pointerId);
    moveTo(event);
  });
  overview.addEventListener("pointermove", (event) => event.buttons && moveTo(event));
  overview.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      page.view.zoom(wheelFactor(event), (GUTTER + page.view.width) / 2);
      redraw();
    },
    { passive: false },
  );
}
