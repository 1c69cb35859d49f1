/** Builds the page into the package: one script, one style sheet, the document, and the licences of what it contains. */

import { copyFile, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const output = process.argv[2] ?? join(here, "..", "src", "fullscale", "serve", "static");

await rm(output, { recursive: true, force: true });
await mkdir(output, { recursive: true });
const result = await build({
  absWorkingDir: here,
  entryPoints: { page: "src/main.js" },
  bundle: true,
  minify: true,
  format: "esm",
  target: ["es2022"],
  // What NiiVue reads besides NIfTI is never asked of it here.
  external: [],
  legalComments: "none",
  metafile: true,
  outdir: output,
  logLevel: "warning",
});
await copyFile(join(here, "src", "page.css"), join(output, "page.css"));
await copyFile(join(here, "src", "icon.svg"), join(output, "icon.svg"));
await writeFile(join(output, "licences.txt"), await licences(Object.keys(result.metafile.inputs)));
await copyFile(join(here, "src", "index.html"), join(output, "index.html")); // last: with it the page is whole

/** Put the licences of all packages together that the script contains. */
async function licences(inputs) {
  const packages = new Set(inputs.flatMap((file) => file.match(/node_modules\/((?:@[^/]+\/)?[^/]+)/)?.[1] ?? []));
  const texts = [...packages].sort().map(async (name) => {
    const folder = join(here, "node_modules", name);
    const about = JSON.parse(await readFile(join(folder, "package.json"), "utf8"));
    return `${name} ${about.version} (${about.license})\n\n${await licenceOf(folder)}`;
  });
  return (await Promise.all(texts)).join(`\n${"-".repeat(80)}\n\n`);
}

async function licenceOf(folder) {
  for (const name of ["LICENSE", "LICENSE.md", "LICENSE.txt", "LICENCE", "license", "License"]) {
    const text = await readFile(join(folder, name), "utf8").catch(() => null);
    if (text !== null) return text;
  }
  return "Its package holds no text of the licence.\n";
}
