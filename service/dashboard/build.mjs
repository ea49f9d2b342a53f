// Islands and styles come in; minified files with a hash in their names, a gzip of each and `manifest.json` go out to assets/built.
// `assets.py` serves them. An entry is every file in islands/pages/ and styles/ whose name does not begin with an underscore.

import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const out = join(here, "assets", "built");
const entries = ["islands/pages", "styles"].flatMap((folder) => readdirSync(join(here, folder)).map((name) => join(here, folder, name)));

rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });
const { metafile } = await build({
  entryPoints: entries.filter((path) => /\.(ts|js|css)$/.test(path) && !basename(path).startsWith("_")),
  outdir: out,
  entryNames: "[name]-[hash]",
  chunkNames: "shared-[hash]",
  bundle: true,
  splitting: true,
  format: "esm",
  target: "es2022",
  minify: true,
  metafile: true,
  absWorkingDir: here,
  logLevel: "warning",
});

const manifest = {};
for (const [path, { entryPoint }] of Object.entries(metafile.outputs)) {
  const file = join(here, path);
  writeFileSync(`${file}.gz`, gzipSync(readFileSync(file), { level: 9 }));
  if (entryPoint) manifest[basename(entryPoint).replace(/\.ts$/, ".js")] = basename(path);
}
// Written last: it says that everything else is there.
writeFileSync(join(out, "manifest.json"), `${JSON.stringify(manifest, null, 2)}\n`);
