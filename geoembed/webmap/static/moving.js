// Where the map looks: fitting, flying, zooming and panning. It works on `view`, which app.js keeps.

const LARGEST_ZOOM = 40, FIT_ZOOM = 9;

// While the map moves it is drawn with fewer points; a moment later with all of them.
let settling = 0;
function moved() {
  state.moving = true;
  clearTimeout(settling);
  settling = setTimeout(() => { state.moving = false; redraw(); }, 160);
  find("tip").hidden = true;
  redraw();
}

// Of the view as it is now; what is drawn may be a frame behind.
function currentProjection() {
  return makeProjection(view, drawing.width, drawing.height);
}

function clampView() {
  view.zoom = Math.min(LARGEST_ZOOM, Math.max(1, view.zoom));
  view.lat = Math.min(88, Math.max(-88, view.lat));
  view.lon = ((view.lon + 540) % 360 + 360) % 360 - 180;
  // The flat map stops at its edges: what the view remembers must be what it shows.
  if (view.kind === "flat") {
    view.lat = currentProjection().invert([drawing.width / 2, drawing.height / 2])[1];
  }
}

// Candidates without those far from the others: one stray place would shrink the rest to a dot.
function withoutStrays(candidates) {
  const middle = unit(candidates[0].place);
  const away = candidates.map(({ place }) => angle(middle, unit(place)));
  const others = away.slice(1).sort((a, b) => a - b);
  const limit = 4 * (others[Math.floor((others.length - 1) / 2)] ?? 0);
  return candidates.filter((_, at) => away[at] <= Math.max(limit, 0.02));
}

// The view that shows the candidates and the radius of the first.
function fittingView(query, all = false) {
  const [best] = query.candidates;
  if (!best) return { ...wholeView(), lon: view.lon };
  const km = Math.min(0.45 * Math.PI * EARTH_KM, best.radii[1].km ?? best.radii[0].km ?? 0);
  const places = (all ? query.candidates : withoutStrays(query.candidates)).map(({ place }) => place);
  if (view.kind === "globe") {
    const middle = unit(best.place);
    const reach = Math.max(0.02, km / EARTH_KM, ...places.map((place) => angle(middle, unit(place))));
    const zoom = reach * 1.25 < Math.PI / 2 ? 1 / Math.sin(reach * 1.25) : 1;
    return { lon: best.place[0], lat: best.place[1], zoom: Math.min(FIT_ZOOM, zoom) };
  }
  const ring = d3.geoCircle().center(best.place).radius(Math.max(1, km / EARTH_KM / RADIANS)).precision(10)();
  const target = { kind: "flat", lon: best.place[0], lat: 0, zoom: 1 };
  const project = makeProjection(target, drawing.width, drawing.height);
  const points = [...places, ...ring.coordinates[0]].map(project);
  const [left, right] = [Math.min(...points.map(([x]) => x)), Math.max(...points.map(([x]) => x))];
  const [top, bottom] = [Math.min(...points.map(([, y]) => y)), Math.max(...points.map(([, y]) => y))];
  const zoom = Math.min(drawing.width / (right - left), drawing.height / (bottom - top)) * 0.8;
  if (zoom < 1.4) return { ...wholeView(), lon: Math.abs(best.place[0]) > 150 ? 180 : 0 };
  const [lon, lat] = project.invert([(left + right) / 2, (top + bottom) / 2]);
  return { lon, lat, zoom: Math.min(FIT_ZOOM, zoom) };
}

function wholeView() {
  return view.kind === "globe" ? { lon: view.lon, lat: view.lat, zoom: 1 } : { lon: 0, lat: 0, zoom: 1 };
}

function fly(target) {
  cancelAnimationFrame(state.flight);
  if (calm.matches || document.hidden) {
    Object.assign(view, target);
    moved();
    return;
  }
  const start = { ...view };
  const between = d3.geoInterpolate([start.lon, start.lat], [target.lon, target.lat]);
  const turn = ((target.lon - start.lon + 540) % 360) - 180;
  let began;
  const length = 450 + 350 * Math.min(1, between.distance || 0);
  const step = (now) => {
    began ??= now;
    const share = Math.min(1, (now - began) / length);
    const eased = share < 0.5 ? 4 * share ** 3 : 1 - (2 - 2 * share) ** 3 / 2;
    [view.lon, view.lat] = view.kind === "globe"
      ? between(eased)
      : [start.lon + turn * eased, start.lat + (target.lat - start.lat) * eased];
    view.zoom = start.zoom * (target.zoom / start.zoom) ** eased;
    if (share === 1) Object.assign(view, target);
    clampView();
    moved();
    if (share < 1) state.flight = requestAnimationFrame(step);
  };
  state.flight = requestAnimationFrame(step);
}

// Moves the map so that a place lies under a point of the canvas again.
function hold(place, x, y) {
  for (let round = 0; round < 2; round++) {
    const now = currentProjection().invert([x, y]);
    if (!now || !now.every(Number.isFinite)) return;
    view.lon += ((place[0] - now[0] + 540) % 360) - 180;
    view.lat += place[1] - now[1];
    clampView();
  }
}

function zoomAt(factor, x = drawing.width / 2, y = drawing.height / 2) {
  cancelAnimationFrame(state.flight);
  const place = placeAt(currentProjection(), x, y);
  view.zoom *= factor;
  clampView();
  if (place) hold(place, x, y);
  moved();
}

function pan(dx, dy) {
  cancelAnimationFrame(state.flight);
  const perDegree = currentProjection().scale() * RADIANS;
  view.lon -= dx / perDegree / Math.max(0.25, Math.cos(view.lat * RADIANS));
  view.lat += dy / perDegree;
  clampView();
  moved();
}
