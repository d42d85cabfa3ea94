/** GraphiQL, with the token in both of its transports and a tab for each of the first things to try. */

import "graphiql/setup-workers/vite";
import "graphiql/style.css";
import { createGraphiQLFetcher } from "@graphiql/toolkit";
import { GraphiQL } from "graphiql";
import { useMemo, useRef } from "react";
import { endpoint, type Gateway } from "./gateway";
import { starters } from "./operations";
import { useModels } from "./use-models";

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
  // GraphiQL reads its tabs once, so they wait for the models: a starter asks one that is there.
  const { models, problem } = useModels(gateway);
  const tabs = useRef<ReturnType<typeof starters>>(undefined);
  if (models || problem) tabs.current ??= starters((models?.find(({ available }) => available) ?? models?.[0])?.name ?? "NAME OF A MODEL");
  if (!tabs.current) return null;
  // Prompts, and what is typed into Login's variables, must not outlive the browser tab.
  return (
    <GraphiQL
      fetcher={fetcher}
      defaultTabs={tabs.current}
      storage={sessionStorage}
      forcedTheme="system"
      defaultEditorToolsVisibility="variables"
      showPersistHeadersSettings={false}
    />
  );
}
