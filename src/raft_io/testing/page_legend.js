// The head of the page: what the run is, the check boxes and the legend.

const KINDS = [
  ["append", "entries"],
  ["vote", "votes"],
  ["snapshot", "snapshots"],
  ["read", "reads"],
  ["other", "other messages"],
  ["heartbeat", "heartbeats"],
  ["reply", "replies"],
  ["lost", "lost"],
  ["progress", "commits, applies"],
  ["sync", "syncs"],
  ["fault", "faults"],
  ["client", "clients"],
];
const MANY_HEARTBEATS = 400;

function swatch(width, paint) {
  const canvas = document.createElement("canvas");
  canvas.style.width = `${width}px`;
  canvas.style.height = "18px";
  const ratio = window.devicePixelRatio || 1;
  canvas.width = width * ratio;
  canvas.height = 18 * ratio;
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  paint(pen);
  return canvas;
}

function paintLine(pen, colour, lost) {
  pen.strokeStyle = pen.fillStyle = colour;
  pen.lineWidth = 1.5;
  pen.setLineDash(lost ? [4, 3] : []);
  pen.beginPath();
  pen.moveTo(1, 9);
  pen.lineTo(22, 9);
  pen.stroke();
  pen.setLineDash([]);
  pen.beginPath();
  (lost ? addCross : addHead)(pen, { x0: 1, y0: 9, x1: lost ? 18 : 24, y1: 9 });
  if (lost) pen.stroke();
  else pen.fill();
}

/** What stands beside a check box, to tell what it is about. */
function kindSwatch(kind) {
  const { theme } = page;
  if (FAMILIES.includes(kind)) return swatch(26, (pen) => paintLine(pen, theme[kind], false));
  const paints = {
    lost: (pen) => paintLine(pen, theme.other, true),
    progress: (pen) => {
      pen.fillStyle = theme.commit;
      pen.fillRect(7, 3, 2, 6);
      pen.fillStyle = theme.apply;
      pen.fillRect(15, 9, 2, 6);
    },
    sync: (pen) => {
      pen.fillStyle = theme.sync;
      pen.fillRect(1, 8, 22, 3);
    },
    fault: (pen) => {
      pen.fillStyle = faultColour(theme, 28);
      pen.fillRect(1, 3, 22, 12);
      pen.fillStyle = theme.fault;
      pen.fillRect(1, 3, 2, 12);
    },
    client: (pen) => {
      pen.fillStyle = theme.operation;
      pen.strokeStyle = theme.leader;
      pen.fillRect(1.5, 3.5, 21, 11);
      pen.strokeRect(1.5, 3.5, 21, 11);
    },
  };
  return paints[kind] && swatch(24, paints[kind]);
}

function countsOf(model) {
  const counts = {
    progress: model.ticks.items.length,
    sync: model.syncs.items.length,
    fault: model.faults.items.length,
    client: model.operations.items.length,
  };
  for (const item of model.messages.items) {
    for (const kind of [item.family, item.reply && "reply", item.lost && "lost"]) {
      if (kind) counts[kind] = (counts[kind] ?? 0) + 1;
    }
  }
  return counts;
}

function makeCheckBoxes() {
  const counts = countsOf(page.model);
  const labels = KINDS.filter(([kind]) => counts[kind]).map(([kind, name]) => {
    const box = element("input");
    box.type = "checkbox";
    box.checked = page.shown[kind];
    box.addEventListener("change", () => {
      page.shown[kind] = box.checked;
      redraw();
    });
    const count = element("span", counts[kind]);
    count.className = "count";
    return element("label", box, ...[kindSwatch(kind)].filter(Boolean), name, count);
  });
  byId("kinds").replaceChildren(...labels);
}

function makeLegend() {
  const { theme } = page;
  const item = (width, name, paint) => {
    const made = element("span", swatch(width, paint), name);
    made.className = "item";
    return made;
  };
  const roles = ["leader", "candidate", "pre_candidate", "follower", "learner", "paused", "down"];
  const signs = ["start", "kill", "crash", "wipe", "pause", "snapshot taken", "snapshot restored", "members"];
  const names = { start: "start, resume", crash: "power loss", wipe: "disk wiped", members: "membership" };
  byId("legend").replaceChildren(
    ...roles.map((role) => item(26, roleName(role), (pen) => paintState(pen, theme, role, 0, 3, 26, 13))),
    ...signs.map((sign) => item(18, names[sign] ?? sign, (pen) => paintSign(pen, theme, sign, 9, 9))),
    item(26, "outcome unknown", (pen) => stripes(pen, theme.fault, 0, 3, 26, 13, 6)),
  );
}

function counted(number, what) {
  return `${number} ${what}${number === 1 ? "" : "s"}`;
}

/** What went wrong, each as a bar that leads to where it did. */
function makeFailures() {
  const { trace, violations, bounds } = page.model;
  const failures = violations.map((violation) => ({
    text: `Violation at ${momentText(violation.at)}: ${violation.text}`,
    go: () => goTo(violation.at, violation),
  }));
  // A failure that says the same as a violation is not told twice.
  if (trace.failure && !violations.some((violation) => violation.text === trace.failure)) {
    failures.unshift({
      text: `Failed: ${trace.failure}`,
      go: () => goTo(violations[0]?.at ?? bounds.to, violations[0]),
    });
  }
  const bars = failures.slice(0, 5).map(({ text, go }) => {
    const bar = element("button", text);
    bar.addEventListener("click", go);
    return bar;
  });
  byId("failures").replaceChildren(...bars);
}

function makeHeader() {
  const { trace, violations } = page.model;
  const size = [
    counted(trace.nodes.length, "node"),
    `${+trace.end.toFixed(3)} s`,
    counted(trace.events.length, "event"),
  ];
  byId("facts").textContent = `seed ${trace.seed}, ${size.join(", ")}`;
  byId("to-violation").hidden = !violations.length;
  byId("verdict").textContent = violations.length || trace.failure ? "" : "no violation";
  makeFailures();
}
