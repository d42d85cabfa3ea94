/** GraphiQL, with the token in both of its transports and one tab for each thing that the gateway does. */

import "graphiql/setup-workers/vite";
import "graphiql/style.css";
import { createGraphiQLFetcher } from "@graphiql/toolkit";
import { GraphiQL } from "graphiql";
import { useMemo } from "react";
import { endpoint, type Gateway } from "./gateway";
import { starters } from "./operations";

export default function Explorer({ gateway }: { gateway: Gateway }) {
  const fetcher = useMemo(
    () =>
      createGraphiQLFetcher({
        url: endpoint,
        fetch: gateway.fetch,
        wsClient: gateway.sockets,
        enableIncrementalDelivery: false,
      }),
    [gateway],
  );
  // Prompts, and what is typed into Login's variables, must not outlive the browser tab.
  return (
    <GraphiQL
      fetcher={fetcher}
      defaultTabs={starters}
      storage={sessionStorage}
      forcedTheme="system"
      defaultEditorToolsVisibility="variables"
      showPersistHeadersSettings={false}
    />
  );
}
