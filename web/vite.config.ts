import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { gzip } from "node:zlib";

import { defineConfig, type Plugin } from "vite";

const SMALLEST = 1024;

/** Puts a compressed copy beside each file, so that the gateway compresses nothing for each visitor. */
function compressed(): Plugin {
  return {
    name: "compressed",
    apply: "build",
    async writeBundle({ dir }) {
      if (dir === undefined) return;
      const entries = await readdir(dir, { recursive: true, withFileTypes: true });
      for (const entry of entries) {
        if (!entry.isFile() || entry.name.endsWith(".gz")) continue;
        const file = join(entry.parentPath, entry.name);
        const content = await readFile(file);
        const packed = await promisify(gzip)(content, { level: 9 });
        if (content.length >= SMALLEST && packed.length < content.length) await writeFile(`${file}.gz`, packed);
      }
    },
  };
}

export default defineConfig({
  plugins: [compressed()],
  // Relative URLs, so that the page also works behind a proxy that puts it below a path.
  base: "./",
  worker: { format: "es" },
  build: {
    target: "es2022",
    // Monaco, GraphiQL's editor, is one chunk of this size; it comes only to who opens GraphiQL.
    chunkSizeWarningLimit: 4096,
    rolldownOptions: {
      checks: { bundlerTimings: false },
      onwarn(warning, warn) {
        // "use client" at the top of a dependency's module means nothing in a page without server components.
        if (warning.code !== "MODULE_LEVEL_DIRECTIVE") warn(warning);
      },
    },
  },
  // `npm run dev` beside a gateway on its default port.
  server: { proxy: { "/graphql": { target: "http://127.0.0.1:8000", ws: true } } },
});
