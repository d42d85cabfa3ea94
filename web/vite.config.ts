import { defineConfig } from "vite";

export default defineConfig({
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
