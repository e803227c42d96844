// From the encoded outlines to shapes that d3 draws; the other way round stands in outlines.py.

const RADIANS = Math.PI / 180;
const EARTH_KM = 6371.0088;

function decode(text, step) {
  const places = [];
  let lon = 0, lat = 0, at = 0;
  const next = () => {
    let number = 0, shift = 1, letter;
    do {
      letter = text.charCodeAt(at++) - 63;
      number += (letter & 31) * shift;
      shift *= 32;
    } while (letter & 32);
    return number % 2 ? -(number + 1) / 2 : number / 2;
  };
  while (at < text.length) {
    lon += next();
    lat += next();
    places.push([lon * step, lat * step]);
  }
  return places;
}

function decodePolygon(rings, step) {
  return rings.map((text) => {
    const ring = decode(text, step);
    ring.push(ring[0]);
    return ring;
  });
}

// No part covers half the globe. One that seems to is a sliver whose corners rounding has turned
// round: drawn, it would fill everything but itself.
function isSliver(coordinates) {
  return d3.geoArea({ type: "Polygon", coordinates }) > 2 * Math.PI;
}

// Where shapes are cut there is no coast: along the antimeridian and at the pole.
function isCut(a, b, meridians) {
  const same = Math.abs(a[0] - b[0]) < 1e-6;
  return (same && meridians.some((lon) => Math.abs(a[0] - lon) < 1e-6)) ||
    (a[1] < -89.99 && b[1] < -89.99) || (a[1] > 89.99 && b[1] > 89.99);
}

const EDGES = [-180, 180];

function openEdges(rings, meridians = EDGES) {
  const lines = [];
  for (const ring of rings) {
    let line = [ring[0]];
    for (let at = 1; at < ring.length; at++) {
      if (isCut(ring[at - 1], ring[at], meridians)) {
        if (line.length > 1) lines.push(line);
        line = [];
      }
      line.push(ring[at]);
    }
    if (line.length > 1) lines.push(line);
  }
  return lines;
}

function unit([lon, lat]) {
  const c = Math.cos(lat * RADIANS);
  return [c * Math.cos(lon * RADIANS), c * Math.sin(lon * RADIANS), Math.sin(lat * RADIANS)];
}

function angle(a, b) {
  return Math.acos(Math.min(1, Math.max(-1, a[0] * b[0] + a[1] * b[1] + a[2] * b[2])));
}

// A circle around a shape, so that what is out of view is not even looked at.
function around(places) {
  const sum = [0, 0, 0];
  const units = places.map(unit);
  for (const u of units) for (let axis = 0; axis < 3; axis++) sum[axis] += u[axis];
  const length = Math.hypot(...sum);
  if (length < 1e-9) return { middle: [0, 0, 1], reach: Math.PI };
  const middle = sum.map((part) => part / length);
  return { middle, reach: units.reduce((most, u) => Math.max(most, angle(middle, u)), 0) };
}

function unpackLevel(level, step) {
  const polygons = level.land.map((rings) => decodePolygon(rings, step));
  const land = polygons.filter((polygon) => !isSliver(polygon)).map((coordinates) => {
    const lines = openEdges(coordinates);
    return {
      ...around(coordinates[0]),
      fill: { type: "Polygon", coordinates },
      edge: { type: "MultiLineString", coordinates: lines },
      cut: coordinates.some((ring) => ring.some((place, at) => at && isCut(ring[at - 1], place, EDGES))),
    };
  });
  const borders = level.borders.map((text) => {
    const coordinates = decode(text, step);
    return { ...around(coordinates), edge: { type: "LineString", coordinates } };
  });
  return { land, borders };
}

function unpackWorld(packed) {
  const levels = {};
  return {
    // The fine outlines are decoded when they are first needed.
    level: (name) => (levels[name] ??= unpackLevel(packed[name], packed.step)),
    countries: packed.countries.map(([name, lon, lat, degrees]) =>
      ({ name, place: [lon, lat], unit: unit([lon, lat]), degrees })),
    cities: packed.cities.map(([name, lon, lat]) =>
      ({ name, place: [lon, lat], unit: unit([lon, lat]) })),
  };
}

// Regions wider than a third of the globe come in pieces; see _CUTS in reading.py.
const REGION_CUTS = [-180, -89.937, 0.063, 90.063, 180];

function unpackRegions(packed, step) {
  return packed.map(([share, polygons]) => {
    const coordinates = polygons.map((rings) => decodePolygon(rings, step))
      .filter((polygon) => !isSliver(polygon));
    return {
      share,
      fill: { type: "MultiPolygon", coordinates },
      edge: {
        type: "MultiLineString",
        coordinates: coordinates.flatMap((rings) => openEdges(rings, REGION_CUTS)),
      },
    };
  });
}
