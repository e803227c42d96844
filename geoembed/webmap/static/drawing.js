// The map on its canvas: a projection for the view, then sea, land, regions, names, places.

const PALETTE = ["#f6d27a", "#f09a4e", "#dd5540", "#b01f5f", "#6b1577"];
const FLAT_WIDTH = 5.42, FLAT_HEIGHT = 2.635; // of Equal Earth at scale 1
const GRATICULE = d3.geoGraticule10();
const FINE_FROM = 2.2, FINE_MOVING_FROM = 7;

function channels(hex) {
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

// Colour of a share between 0 and 1, and the ink that can be read on it.
function scoreColour(share) {
  const at = Math.min(0.9999, Math.max(0, share)) * (PALETTE.length - 1);
  const low = channels(PALETTE[Math.floor(at)]), high = channels(PALETTE[Math.floor(at) + 1]);
  const mixed = low.map((value, c) => Math.round(value + (high[c] - value) * (at % 1)));
  const light = (0.299 * mixed[0] + 0.587 * mixed[1] + 0.114 * mixed[2]) / 255;
  return { ground: `rgb(${mixed.join(",")})`, ink: light > 0.55 ? "#23150b" : "#ffffff" };
}

function readTheme() {
  const style = getComputedStyle(document.documentElement);
  const names = ["space", "sea", "sea-edge", "land", "coast", "border", "grid", "name", "halo",
    "region", "circle", "ring", "shadow", "accent"];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

// Radius of the globe, or pixels a radian of the flat map, before any zoom.
function baseScale(kind, width, height) {
  const margin = width < 500 ? 12 : 26;
  // The buttons stand in the corners of the flat map, where the globe has none.
  return kind === "globe"
    ? Math.max(40, Math.min(width, height) / 2 - margin)
    : Math.max(20, Math.min((width - 2 * margin) / FLAT_WIDTH, (height - 2 * margin) / FLAT_HEIGHT));
}

function makeProjection(view, width, height) {
  const scale = baseScale(view.kind, width, height) * view.zoom;
  if (view.kind === "globe") {
    return d3.geoOrthographic().rotate([-view.lon, -view.lat]).clipAngle(90).precision(0.4)
      .scale(scale).translate([width / 2, height / 2])
      .clipExtent([[-20, -20], [width + 20, height + 20]]);
  }
  const flat = d3.geoEqualEarth().rotate([-view.lon, 0]).precision(0.4).scale(scale)
    .translate([width / 2, 0]);
  const half = (FLAT_HEIGHT / 2) * scale;
  // As far as a zoom around any place of the map moves it, and no farther.
  const room = Math.max(half - half / view.zoom, half - height / 2 + 20);
  const up = Math.max(-room, Math.min(room, flat([view.lon, view.lat])[1]));
  return flat.translate([width / 2, height / 2 - up])
    .clipExtent([[-20, -20], [width + 20, height + 20]]);
}

// The place under a point, or null beside the globe or map.
function placeAt(projection, x, y) {
  const place = projection.invert([x, y]);
  if (!place || !Number.isFinite(place[0]) || Math.abs(place[1]) > 90) return null;
  const back = projection(place);
  return back && Math.hypot(back[0] - x, back[1] - y) < 2 ? place : null;
}

class Drawing {
  constructor(canvas, world) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.world = world;
    this.widths = new Map();
    this.markers = [];
    this.theme = readTheme();
  }

  resize() {
    const { width, height } = this.canvas.getBoundingClientRect();
    const density = Math.min(3, window.devicePixelRatio || 1);
    this.width = width;
    this.height = height;
    this.canvas.width = Math.max(1, Math.round(width * density));
    this.canvas.height = Math.max(1, Math.round(height * density));
    this.context.setTransform(density, 0, 0, density, 0, 0);
  }

  draw(view, scene, moving) {
    const c = this.context;
    this.view = view;
    this.projection = makeProjection(view, this.width, this.height);
    this.path = d3.geoPath(this.projection, c);
    this.middle = unit([view.lon, view.lat]);
    this.reach = this.viewReach();
    c.clearRect(0, 0, this.width, this.height);
    c.lineJoin = c.lineCap = "round";
    this.drawGround();
    const fine = view.zoom >= (moving ? FINE_MOVING_FROM : FINE_FROM);
    const level = this.world.level(fine ? "fine" : "coarse");
    const land = level.land.filter((part) => this.sees(part));
    this.fill(land, this.theme.land);
    for (const region of scene.regions) this.drawRegion(region);
    this.stroke(level.borders.filter((part) => this.sees(part)), this.theme.border, 0.6);
    this.stroke(land, this.theme.coast, 0.7);
    this.drawRim();
    for (const circle of scene.circles) this.drawCircle(circle);
    this.placeMarkers(scene);
    if (!(moving && view.zoom < 1.5)) this.drawNames();
    this.drawMarkers(scene);
  }

  // Angle from the middle of the view to the farthest place in it, so that the rest is left out.
  viewReach() {
    const [w, h] = [this.width, this.height];
    if (this.view.kind === "globe") {
      const corner = Math.hypot(w, h) / 2 / this.projection.scale();
      return corner < 1 ? Math.asin(corner) : Math.PI / 2;
    }
    this.middle = unit(this.placeAt(w / 2, h / 2) ?? [this.view.lon, this.view.lat]);
    const shares = [0, 0.25, 0.5, 0.75, 1];
    const edge = shares.flatMap((t) => [[t * w, 0], [t * w, h], [0, t * h], [w, t * h]]);
    const places = edge.map(([x, y]) => this.placeAt(x, y));
    if (places.includes(null)) return Math.PI;
    return Math.max(...places.map((place) => angle(this.middle, unit(place)))) * 1.05;
  }

  sees(part) {
    return angle(this.middle, part.middle) <= this.reach + part.reach + 0.01;
  }

  shows(u) {
    return angle(this.middle, u) <= Math.min(this.reach, this.view.kind === "globe" ? 1.35 : Math.PI);
  }

  drawGround() {
    const c = this.context;
    c.beginPath();
    this.path({ type: "Sphere" });
    if (this.view.kind === "globe" && this.view.zoom < 3) {
      const radius = this.projection.scale();
      const [x, y] = [this.width / 2, this.height / 2];
      const shade = c.createRadialGradient(x - radius / 3, y - radius / 3, radius / 8, x, y, radius);
      shade.addColorStop(0, this.theme.sea);
      shade.addColorStop(0.75, this.theme.sea);
      shade.addColorStop(1, this.theme["sea-edge"]);
      c.fillStyle = shade;
    } else {
      c.fillStyle = this.theme.sea;
    }
    c.fill();
    c.beginPath();
    this.path(GRATICULE);
    c.strokeStyle = this.theme.grid;
    c.lineWidth = 0.6;
    c.stroke();
  }

  drawRim() {
    this.context.beginPath();
    this.path({ type: "Sphere" });
    this.context.strokeStyle = this.theme["sea-edge"];
    this.context.lineWidth = 1.2;
    this.context.stroke();
  }

  fill(parts, colour) {
    const c = this.context;
    c.beginPath();
    for (const part of parts) this.path(part.fill);
    c.fillStyle = c.strokeStyle = colour;
    c.fill();
    // A hairline in its own colour closes the seam where land is cut at the antimeridian.
    c.beginPath();
    for (const part of parts) if (part.cut) this.path(part.fill);
    c.lineWidth = 0.5;
    c.stroke();
  }

  stroke(parts, colour, width) {
    const c = this.context;
    c.beginPath();
    for (const part of parts) this.path(part.edge);
    c.strokeStyle = colour;
    c.lineWidth = width;
    c.stroke();
  }

  drawRegion({ fill, edge, strength, dashed }) {
    const c = this.context;
    c.beginPath();
    this.path(fill);
    c.fillStyle = `rgba(${this.theme.region}, ${0.34 * strength})`;
    c.fill();
    c.beginPath();
    this.path(edge);
    c.strokeStyle = `rgba(${this.theme.region}, 0.9)`;
    c.lineWidth = 1.2;
    c.setLineDash(dashed ? [5, 4] : []);
    c.stroke();
    c.setLineDash([]);
  }

  drawCircle({ place, km, dashed }) {
    const c = this.context;
    const degrees = Math.min(179.9, km / EARTH_KM / RADIANS);
    c.beginPath();
    this.path({
      type: "LineString",
      coordinates: d3.geoCircle().center(place).radius(degrees).precision(2)().coordinates[0],
    });
    c.setLineDash(dashed ? [6, 5] : []);
    c.strokeStyle = this.theme.halo;
    c.lineWidth = 3.4;
    c.globalAlpha = 0.7;
    c.stroke();
    c.globalAlpha = 1;
    c.strokeStyle = this.theme.circle;
    c.lineWidth = 1.5;
    c.stroke();
    c.setLineDash([]);
  }

  placeMarkers(scene) {
    const many = scene.candidates.length > 20;
    this.markers = scene.candidates.flatMap((candidate, index) => {
      if (this.view.kind === "globe" && angle(this.middle, unit(candidate.place)) > Math.PI / 2) return [];
      const [x, y] = this.projection(candidate.place);
      const active = index === scene.active;
      return [{ x, y, index, candidate, active, radius: (many ? 8 : 11) + (active ? 2.5 : 0) }];
    });
    // The active one and the best ones on top.
    this.markers.sort((a, b) => a.active - b.active || b.index - a.index);
  }

  drawMarkers() {
    const c = this.context;
    for (const { x, y, radius, candidate, active } of this.markers) {
      c.beginPath();
      c.arc(x, y, radius, 0, 2 * Math.PI);
      c.shadowColor = this.theme.shadow;
      c.shadowBlur = 6;
      c.shadowOffsetY = 1;
      c.fillStyle = candidate.colour.ground;
      c.fill();
      c.shadowColor = "transparent";
      c.strokeStyle = this.theme.ring;
      c.lineWidth = active ? 2.6 : 1.8;
      c.stroke();
      c.fillStyle = candidate.colour.ink;
      c.font = `700 ${Math.round(radius * (candidate.rank > 99 ? 0.8 : 1.08))}px system-ui, sans-serif`;
      c.textAlign = "center";
      c.textBaseline = "middle";
      c.fillText(String(candidate.rank), x, y + 0.8);
    }
    c.textAlign = "left";
  }

  measure(text, font) {
    const key = `${font}|${text}`;
    if (!this.widths.has(key)) {
      this.context.font = font;
      this.widths.set(key, this.context.measureText(text).width);
    }
    return this.widths.get(key);
  }

  // Names where there is room, larger countries and cities first.
  drawNames() {
    const taken = this.markers.map(({ x, y, radius }) => [x - radius - 2, y - radius - 2, x + radius + 2, y + radius + 2]);
    const free = (box) => box[0] > 2 && box[2] < this.width - 2 && box[1] > 2 && box[3] < this.height - 2 &&
      taken.every((other) => box[2] < other[0] || box[0] > other[2] || box[3] < other[1] || box[1] > other[3]);
    const perDegree = this.projection.scale() * RADIANS;
    const country = "600 11px system-ui, sans-serif", city = "11px system-ui, sans-serif";
    for (const { name, place, unit: u, degrees } of this.world.countries) {
      if (!this.shows(u)) continue;
      const width = this.measure(name, country);
      if (degrees * perDegree * 2 < Math.min(width * 0.8, 90)) continue;
      const [x, y] = this.projection(place);
      const box = [x - width / 2 - 3, y - 8, x + width / 2 + 3, y + 8];
      if (!free(box)) continue;
      taken.push(box);
      this.write(name, x - width / 2, y, country, 0.75);
    }
    if (this.view.zoom < 1.6) return;
    let left = Math.round((this.width * this.height) / 14000);
    for (const { name, place, unit: u } of this.world.cities) {
      if (!this.shows(u)) continue;
      const [x, y] = this.projection(place);
      const width = this.measure(name, city);
      const box = [x - 4, y - 8, x + width + 8, y + 8];
      if (!free(box)) continue;
      taken.push([box[0] - 14, box[1] - 5, box[2] + 14, box[3] + 5]);
      this.context.beginPath();
      this.context.arc(x, y, 1.9, 0, 2 * Math.PI);
      this.context.fillStyle = this.theme.name;
      this.context.fill();
      this.write(name, x + 5, y, city, 1);
      if (--left <= 0) return;
    }
  }

  write(text, x, y, font, opacity) {
    const c = this.context;
    c.font = font;
    c.textBaseline = "middle";
    c.lineWidth = 2.6;
    c.globalAlpha = opacity;
    c.strokeStyle = this.theme.halo;
    c.strokeText(text, x, y);
    c.fillStyle = this.theme.name;
    c.fillText(text, x, y);
    c.globalAlpha = 1;
  }

  // Places under a point, the nearest first.
  markersAt(x, y, slack = 3) {
    const away = (marker) => Math.hypot(marker.x - x, marker.y - y);
    return this.markers.filter((marker) => away(marker) <= marker.radius + slack)
      .sort((a, b) => away(a) - away(b));
  }

  placeAt(x, y) {
    return placeAt(this.projection, x, y);
  }
}
