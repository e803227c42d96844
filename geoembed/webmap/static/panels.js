// What stands beside the map: the list of queries, the places of the chosen one, the legend.
// Text reaches the page as text alone, never as markup.

const FAR_KM = 50;

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

function showDegrees(value, letters, decimals) {
  const shown = Math.abs(value).toFixed(decimals);
  return Number(shown) === 0 ? `${shown}°` : `${shown}° ${letters[value < 0 ? 1 : 0]}`;
}

function showPlace([lon, lat], decimals = 4) {
  return `${showDegrees(lon, "EW", decimals)}, ${showDegrees(lat, "NS", decimals)}`;
}

function showKm(km) {
  const digits = km < 10 ? 1 : 0;
  return `${km.toLocaleString("en", { maximumFractionDigits: digits })} km`;
}

function showShare(share) {
  return `${Number((share * 100).toPrecision(4))} %`;
}

// A place is named after a city, which may be far: then the page says how far.
function showAway({ away }) {
  return away !== null && away >= FAR_KM ? `${showKm(away)} from that city` : "";
}

// Paths are long; the end tells them apart. A text stays whole.
function shortName(query) {
  return query.picture || query.error ? query.name.split(/[\\/]/).pop() || query.name : query.name;
}

function makeThumb(query) {
  if (query.picture) {
    return make("img", { class: "thumb", src: query.picture, alt: "", decoding: "async", draggable: "false" });
  }
  return make("span", { class: `thumb tile${query.error ? " wrong" : ""}`, "aria-hidden": "true" }, query.error ? "!" : "“”");
}

function makeEntry(query, index) {
  const best = query.candidates[0];
  const below = query.error
    ? make("span", { class: "wrong" }, query.error)
    : make("span", {}, best ? best.place_name || showPlace(best.place, 2) : "no place");
  return make(
    "li",
    { class: "query", role: "option", id: `query-${index}`, "aria-selected": "false", title: query.name },
    makeThumb(query),
    make("div", {}, make("b", {}, shortName(query)), below),
  );
}

function makeCandidate(candidate, index) {
  const badge = make("span", { class: "badge", "aria-hidden": "true" }, String(candidate.rank));
  badge.style.background = candidate.colour.ground;
  badge.style.color = candidate.colour.ink;
  return make(
    "li",
    {},
    make(
      "button",
      {
        type: "button", class: "place", "data-index": index, "aria-current": "false",
        "aria-label": `Place ${candidate.rank}: ${candidate.place_name || "unnamed"}, ` +
          `${showPlace(candidate.place)}, score ${candidate.score.toFixed(3)}`,
      },
      badge,
      make("b", {}, candidate.place_name || "Unnamed place"),
      make("span", { class: "score" }, candidate.score.toFixed(3)),
      make("small", {}, [showPlace(candidate.place), showAway(candidate)].filter(Boolean).join(" · ")),
    ),
  );
}

function radiusLines({ rank, radii }, calibrated) {
  const known = radii.filter(({ km }) => km !== null);
  if (!known.length) return null;
  const text = known.map(({ share, km }) => `${showShare(share)} within ${showKm(km)}`).join(", ");
  return make("p", { class: "radius" }, `Radius around place ${rank}: ${text}${calibrated === false ? " (an estimate, not calibrated)" : ""}.`);
}

function fillAnswers(panel, query, index, count) {
  const body = make("div", { class: "body" });
  panel.replaceChildren();
  if (query.picture) {
    panel.append(make("img", { class: "photo", src: query.picture, alt: `Photograph ${query.name}` }));
  }
  const places = query.candidates.length;
  const summary = places === 1 ? "1 place" : `${places.toLocaleString("en")} places`;
  body.append(
    make("h2", {}, query.name),
    make("p", { class: "where" }, `${index + 1} of ${count}${query.error ? "" : ` · ${summary}, best first`}`),
  );
  if (query.error) {
    body.append(make("p", { class: "wrong" }, `No place: ${query.error}`));
  }
  if (query.quiet && !query.error) {
    body.append(make("p", { class: "quiet" }, "No location signal: this tells no more about its place than noise does."));
  }
  if (places) {
    body.append(make("ol", {}, ...query.candidates.map(makeCandidate)), make("div", { id: "radius" }));
  }
  panel.append(body);
  panel.scrollTop = 0;
}

function fillTip(tip, markers) {
  tip.replaceChildren(
    ...markers.slice(0, 4).map(({ candidate }) => make(
      "div",
      {},
      make("b", {}, `${candidate.rank}  ${candidate.place_name || "Unnamed place"}`),
      make("span", {}, showAway(candidate)),
      make("span", {}, showPlace(candidate.place)),
      make("span", {}, `score ${candidate.score.toFixed(3)}`),
    )),
  );
}

function makeLegend(legend, entries, range) {
  legend.replaceChildren(...entries.map(({ key, label, look, strength }) => {
    const sample = make("i", { class: look });
    if (strength) sample.style.setProperty("--strength", strength);
    return make("button", { type: "button", class: "chip", "data-key": key, "aria-pressed": "true" }, sample, label);
  }));
  if (!range) return;
  const scale = make("i", { class: "scale" });
  const [low, high] = range;
  const colours = low === high ? [1, 1] : [0, 0.25, 0.5, 0.75, 1];
  scale.style.background = `linear-gradient(90deg, ${colours.map((s) => scoreColour(s).ground).join(", ")})`;
  const chip = low === high
    ? make("span", { class: "chip" }, make("span", {}, "score"), scale, high.toFixed(3))
    : make("span", { class: "chip" }, make("span", {}, `score ${low.toFixed(3)}`), scale, high.toFixed(3));
  legend.append(chip);
}
