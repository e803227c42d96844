// What the reader does: choose, turn, zoom, point.

const find = (id) => document.getElementById(id);
const data = JSON.parse(find("data").textContent);
const range = scoreRange(data.queries);
const queries = data.queries.map(unpackQuery);
const drawing = new Drawing(find("map"), unpackWorld(data.world));
const calm = window.matchMedia("(prefers-reduced-motion: reduce)");

const view = { kind: "globe", lon: 0, lat: 15, zoom: 1 };
const state = { query: -1, active: 0, hidden: new Set(), moving: false, flight: 0, frame: 0 };

function scoreRange(packed) {
  const scores = packed.flatMap((query) => query.candidates.map((candidate) => candidate[3]));
  return scores.length ? [scores.reduce((a, b) => Math.min(a, b)), scores.reduce((a, b) => Math.max(a, b))] : null;
}

function unpackQuery({ name, error, quiet, calibrated, picture, candidates, regions }) {
  const share = (score) => (range[1] > range[0] ? (score - range[0]) / (range[1] - range[0]) : 1);
  return {
    name, error, quiet, calibrated, picture, packedRegions: regions,
    candidates: candidates.map(([rank, lon, lat, score, place, away, km50, km90]) => ({
      rank, score, place: [lon, lat], place_name: place, away, colour: scoreColour(share(score)),
      radii: [{ share: 0.5, km: km50 }, { share: 0.9, km: km90 }],
    })),
    get regions() {
      return (this.unpacked ??= unpackRegions(this.packedRegions, data.step));
    },
  };
}

// -- what is drawn --------------------------------------------------------------------------------

function legendEntries() {
  const shares = [...new Set(queries.flatMap((query) => query.packedRegions.map(([share]) => share)))].sort((a, b) => a - b);
  const radii = [0.5, 0.9].filter((_, at) => queries.some((q) => q.candidates.some((c) => c.radii[at].km !== null)));
  return [
    ...shares.map((share, at) => ({ key: `region ${share}`, label: `${showShare(share)} region`, look: at ? "area dashed" : "area", strength: at ? 0.4 : 1 })),
    ...radii.map((share) => ({ key: `radius ${share}`, label: `${showShare(share)} radius`, look: share > 0.5 ? "round dashed" : "round" })),
  ];
}

function makeScene() {
  const query = queries[state.query];
  const smallest = Math.min(...query.regions.map(({ share }) => share));
  const active = query.candidates[state.active];
  return {
    candidates: query.candidates,
    active: state.active,
    regions: query.regions.filter(({ share }) => !state.hidden.has(`region ${share}`)).map((region) => ({
      ...region, dashed: region.share > smallest, strength: region.share > smallest ? 0.4 : 1,
    })),
    circles: (active ? active.radii : []).filter(({ share, km }) => km !== null && km > 0 && !state.hidden.has(`radius ${share}`))
      .map(({ share, km }) => ({ place: active.place, km, dashed: share > 0.5 })),
  };
}

function redraw() {
  state.frame ||= requestAnimationFrame(() => {
    state.frame = 0;
    drawing.draw(view, makeScene(), state.moving);
  });
}

// -- choosing -------------------------------------------------------------------------------------

function choose(index, { scroll = true, move = true } = {}) {
  if (index === state.query) return;
  const list = find("queries");
  list.children[state.query]?.setAttribute("aria-selected", "false");
  state.query = index;
  const entry = list.children[index];
  entry.setAttribute("aria-selected", "true");
  list.setAttribute("aria-activedescendant", entry.id);
  if (scroll) keepInView(list, entry);
  const query = queries[index];
  fillAnswers(find("answers"), query, index, queries.length);
  const [best] = query.candidates;
  const said = best
    ? `best place ${best.place_name || "unnamed"}, ${showPlace(best.place, 2)}`
    : query.error || "no place";
  find("spoken").textContent = `${query.name}: ${said}`;
  find("map").setAttribute("aria-label", `Map of ${query.name}: ${said}. Arrow keys move it, plus and minus zoom.`);
  activate(0);
  if (move) fly(fittingView(query));
}

// Scrolls the list alone; scrollIntoView would scroll a phone's page as well.
function keepInView(list, entry) {
  const outer = list.getBoundingClientRect(), inner = entry.getBoundingClientRect();
  if (inner.top < outer.top) list.scrollTop += inner.top - outer.top - 6;
  if (inner.bottom > outer.bottom) list.scrollTop += inner.bottom - outer.bottom + 6;
  if (inner.left < outer.left) list.scrollLeft += inner.left - outer.left - 6;
  if (inner.right > outer.right) list.scrollLeft += inner.right - outer.right + 6;
}

function activate(index) {
  state.active = index;
  for (const button of document.querySelectorAll(".place")) {
    button.setAttribute("aria-current", String(Number(button.dataset.index) === index));
  }
  const candidate = queries[state.query].candidates[index];
  const lines = candidate && radiusLines(candidate, queries[state.query].calibrated);
  find("radius")?.replaceChildren(...(lines ? [lines] : []));
  redraw();
}

function step(by) {
  const shown = [...find("queries").children].filter((entry) => !entry.hidden);
  const at = shown.findIndex((entry) => entry.id === `query-${state.query}`);
  const next = shown[Math.min(shown.length - 1, Math.max(0, at + by))];
  if (next) choose(Number(next.id.slice(6)));
}

function filterList(text) {
  const wanted = text.trim().toLowerCase();
  let any = false;
  queries.forEach((query, index) => {
    const places = query.candidates.map((candidate) => candidate.place_name || "");
    const fits = [query.name, query.error, ...places].join("\n").toLowerCase().includes(wanted);
    find("queries").children[index].hidden = !fits;
    any ||= fits;
  });
  find("nothing").hidden = any;
}

// -- the reader's hands ---------------------------------------------------------------------------

function onCanvas(event) {
  const box = find("map").getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}

function point(x, y) {
  const markers = drawing.markersAt(x, y);
  const tip = find("tip");
  find("map").classList.toggle("over", markers.length > 0);
  tip.hidden = !markers.length;
  if (!markers.length) return;
  fillTip(tip, markers);
  const { x: left, y: top, radius } = markers[0];
  const { offsetWidth: wide, offsetHeight: high } = tip;
  const beyond = left + radius + 8 + wide > drawing.width - 6;
  const across = beyond ? left - radius - 8 - wide : left + radius + 8;
  tip.style.left = `${Math.max(6, Math.min(drawing.width - wide - 6, across))}px`;
  tip.style.top = `${Math.max(6, Math.min(drawing.height - high - 6, top - high / 2))}px`;
}

function readOut(x, y) {
  const place = drawing.placeAt(x, y);
  find("readout").textContent = place ? showPlace(place, view.zoom > 8 ? 2 : 1) : "";
}

function listenToMap(canvas) {
  const pointers = new Map();
  let travelled = 0;
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button > 0) return;
    cancelAnimationFrame(state.flight);
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, onCanvas(event));
    if (pointers.size === 1) travelled = 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = onCanvas(event);
    const before = pointers.get(event.pointerId);
    if (!before) {
      point(x, y);
      readOut(x, y);
      return;
    }
    const [dx, dy] = [x - before[0], y - before[1]];
    travelled += Math.hypot(dx, dy);
    pointers.set(event.pointerId, [x, y]);
    if (travelled < 4) return;
    canvas.classList.add("dragged");
    if (pointers.size === 1) {
      pan(dx, dy);
    } else {
      const [other] = [...pointers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
      const wide = Math.hypot(x - other[0], y - other[1]);
      const was = Math.hypot(before[0] - other[0], before[1] - other[1]);
      zoomAt(wide / Math.max(1, was), (x + other[0]) / 2, (y + other[1]) / 2);
      pan(dx / 2, dy / 2);
    }
  });
  const release = (event) => {
    if (!pointers.delete(event.pointerId)) return;
    if (!pointers.size) canvas.classList.remove("dragged");
    if (event.type === "pointerup" && travelled < 4) {
      const [x, y] = onCanvas(event);
      const [marker] = drawing.markersAt(x, y, event.pointerType === "mouse" ? 3 : 12);
      if (marker) activate(marker.index);
      point(marker ? marker.x : x, marker ? marker.y : y);
    }
  };
  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", release);
  canvas.addEventListener("pointerleave", () => {
    find("tip").hidden = true;
    find("readout").textContent = "";
  });
  canvas.addEventListener("dblclick", (event) => zoomAt(2, ...onCanvas(event)));
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const pixels = event.deltaY * [1, 16, 400][event.deltaMode];
    zoomAt(Math.exp(-Math.max(-300, Math.min(300, pixels)) * (event.ctrlKey ? 0.01 : 0.0016)), ...onCanvas(event));
  }, { passive: false });
}

function turnTo(kind) {
  if (view.kind === kind) return;
  view.kind = kind;
  for (const id of ["globe", "flat"]) find(id).setAttribute("aria-checked", String(id === kind));
  cancelAnimationFrame(state.flight);
  Object.assign(view, fittingView(queries[state.query]));
  moved();
}

const MAP_KEYS = {
  ArrowLeft: () => pan(60, 0),
  ArrowRight: () => pan(-60, 0),
  ArrowUp: () => pan(0, 60),
  ArrowDown: () => pan(0, -60),
};
const KEYS = {
  ArrowUp: () => step(-1),
  ArrowDown: () => step(1),
  ArrowLeft: () => step(-1),
  ArrowRight: () => step(1),
  Home: () => step(-Infinity),
  End: () => step(Infinity),
  "+": () => zoomAt(1.5),
  "=": () => zoomAt(1.5),
  "-": () => zoomAt(1 / 1.5),
  0: () => fly(wholeView()),
  f: () => fly(fittingView(queries[state.query], true)),
};

function pressKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input")) return;
  const place = event.target.closest(".place");
  if (place && (event.key === "ArrowUp" || event.key === "ArrowDown")) {
    const item = event.key === "ArrowUp" ? place.parentElement.previousElementSibling : place.parentElement.nextElementSibling;
    item?.firstElementChild.focus();
    event.preventDefault();
    return;
  }
  const radio = event.target.closest("[role=radio]");
  if (radio && event.key.startsWith("Arrow")) {
    const other = radio.id === "globe" ? "flat" : "globe";
    turnTo(other);
    find(other).focus();
    event.preventDefault();
    return;
  }
  const act = (event.target === find("map") && MAP_KEYS[event.key]) || KEYS[event.key];
  if (!act) return;
  act();
  event.preventDefault();
}

function radiusCaution() {
  const said = new Set(queries.filter((query) => query.candidates.length).map((query) => query.calibrated));
  const calibrated = "A calibrated radius holds the true place as often as it says for pictures like those of " +
    "its calibration, and promises nothing for others.";
  const estimated = "A radius that is not calibrated is the model's own estimate: how often it holds the true " +
    "place is not known.";
  return [said.has(false) ? "" : calibrated, said.has(false) || said.has(null) ? estimated : "",
    said.has(false) && said.has(true) ? calibrated : ""].filter(Boolean).join(" ");
}

function start() {
  const list = find("queries");
  const failed = queries.filter((query) => query.error).length;
  const queriesText = queries.length === 1 ? "1 query" : `${queries.length.toLocaleString("en")} queries`;
  find("count").textContent = queriesText + (failed ? `, ${failed.toLocaleString("en")} without a place` : "");
  list.append(...queries.map(makeEntry));
  // One query needs no list to choose from.
  document.body.classList.toggle("single", queries.length === 1);
  find("filter").hidden = queries.length < 8;
  find("filter").addEventListener("input", (event) => filterList(event.target.value));
  list.addEventListener("click", (event) => {
    const entry = event.target.closest(".query");
    if (entry) choose(Number(entry.id.slice(6)), { scroll: false });
  });
  const answers = find("answers");
  answers.addEventListener("click", (event) => {
    const button = event.target.closest(".place");
    if (!button) return;
    activate(Number(button.dataset.index));
    const { place } = queries[state.query].candidates[state.active];
    fly({ lon: place[0], lat: place[1], zoom: Math.max(view.zoom, 2.5) });
  });
  answers.addEventListener("focusin", (event) => {
    const button = event.target.closest(".place");
    if (button) activate(Number(button.dataset.index));
  });
  const entries = legendEntries();
  makeLegend(find("legend"), entries, range);
  find("legend").addEventListener("click", (event) => {
    const chip = event.target.closest("button.chip");
    if (!chip) return;
    const on = state.hidden.delete(chip.dataset.key);
    if (!on) state.hidden.add(chip.dataset.key);
    chip.setAttribute("aria-pressed", String(on));
    redraw();
  });
  const shows = (kind) => entries.some(({ key }) => key.startsWith(kind));
  find("caution").textContent = [
    shows("region") ? "A region holds its share of the estimated density over the Earth." : "",
    shows("radius") ? radiusCaution() : "",
  ].join(" ").trim();
  find("globe").addEventListener("click", () => turnTo("globe"));
  find("flat").addEventListener("click", () => turnTo("flat"));
  find("closer").addEventListener("click", () => zoomAt(1.6));
  find("farther").addEventListener("click", () => zoomAt(1 / 1.6));
  find("fit").addEventListener("click", () => fly(fittingView(queries[state.query], true)));
  find("whole").addEventListener("click", () => fly(wholeView()));
  listenToMap(find("map"));
  document.addEventListener("keydown", pressKey);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    drawing.theme = readTheme();
    redraw();
  });
  drawing.resize();
  choose(0, { move: false });
  Object.assign(view, fittingView(queries[0]));
  new ResizeObserver(() => { drawing.resize(); redraw(); }).observe(find("stage"));
}

start();
