// Make geoembed/webmap/static/d3-geo.min.js: the few functions of d3-geo that the page of
// geoembed.webmap draws with, in one small file that needs nothing else.
//
//     node tools/build_webmap.mjs        # fetches d3-geo and esbuild with npm into a temporary folder
//
// The file is part of the repository and of the wheel, so that nobody needs Node to use geoembed.

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const D3_GEO = "3.1.2";
const ESBUILD = "0.28.2";
const USED = [
  "geoArea",
  "geoCircle",
  "geoDistance",
  "geoEqualEarth",
  "geoGraticule10",
  "geoInterpolate",
  "geoOrthographic",
  "geoPath",
];
const LIMIT = 80_000; // bytes
const TARGET = join(
  dirname(fileURLToPath(import.meta.url)),
  "../geoembed/webmap/static/d3-geo.min.js",
);

const folder = mkdtempSync(join(tmpdir(), "webmap-"));
try {
  writeFileSync(join(folder, "package.json"), '{"private": true, "type": "module"}');
  execFileSync(
    "npm",
    ["install", "--no-audit", "--no-fund", `d3-geo@${D3_GEO}`, `esbuild@${ESBUILD}`],
    { cwd: folder, stdio: "inherit" },
  );
  writeFileSync(join(folder, "entry.mjs"), `export { ${USED.join(", ")} } from "d3-geo";\n`);
  const { build } = createRequire(join(folder, "entry.mjs"))("esbuild");
  const { outputFiles } = await build({
    absWorkingDir: folder,
    entryPoints: ["entry.mjs"],
    bundle: true,
    minify: true,
    format: "iife",
    globalName: "d3",
    target: "es2020",
    legalComments: "none",
    metafile: true,
    write: false,
  });
  // The licences ask that they go with every copy, and a page is a copy.
  const parts = ["d3-geo", "d3-array"].map((name) => {
    const read = (file) => readFileSync(join(folder, "node_modules", name, file), "utf8");
    return `${name} ${JSON.parse(read("package.json")).version}\n\n${read("LICENSE").trim()}`;
  });
  const text = `/*!\n${parts.join("\n\n")}\n*/\n${outputFiles[0].text.trim()}\n`;
  if (text.includes("</script") || text.includes("%%")) throw new Error("not fit for a page");
  if (text.length > LIMIT) throw new Error(`${text.length} bytes are more than ${LIMIT}`);
  writeFileSync(TARGET, text);
  console.log(`${TARGET}: ${text.length} bytes`);
} finally {
  rmSync(folder, { recursive: true });
}
