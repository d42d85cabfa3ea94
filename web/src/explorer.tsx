/** GraphiQL, with the token in both of its transports and a tab for each of the first things to try. */

import "graphiql/setup-workers/vite";
import "graphiql/style.css";
import { createGraphiQLFetcher } from "@graphiql/toolkit";
import { GraphiQL } from "graphiql";
import type { Client } from "graphql-ws";
import { useEffect, useMemo, useRef, useState } from "react";
import { endpoint, type Gateway } from "./gateway";
import { starters } from "./operations";
import { useModels } from "./use-models";

/** Why the schema cannot be read; null where it can, and undefined until that is known. */
function useSchemaRefusal(gateway: Gateway): string | null | undefined {
  const [refusal, setRefusal] = useState<string | null>();
  useEffect(() => {
    gateway.request("{ __schema { queryType { name } } }").then(
      () => setRefusal(null),
      (error: Error) => setRefusal(error.message),
    );
  }, [gateway]);
  return refusal;
}

export default function Explorer({ gateway }: { gateway: Gateway }) {
  const refusal = useSchemaRefusal(gateway);
  const fetcher = useMemo(
    () =>
      createGraphiQLFetcher({
        url: endpoint,
        fetch: gateway.fetch,
        wsClient: gateway.sockets as Client, // it only subscribes
        enableIncrementalDelivery: false,
      }),
    [gateway],
  );
  // GraphiQL reads its tabs once, so they wait for the models: a starter asks one that is there.
  const { models, problem } = useModels(gateway);
  const tabs = useRef<ReturnType<typeof starters>>(undefined);
  if (models || problem) tabs.current ??= starters((models?.find(({ available }) => available) ?? models?.[0])?.name ?? "NAME OF A MODEL");
  if (!tabs.current || refusal === undefined) return null;
  // Without introspection GraphiQL runs operations all the same; told `null`, it does not wait for a schema.
  // Prompts, and what is typed into Login's variables, must not outlive the browser tab.
  return (
    <>
      {refusal && (
        <p className="notice" role="note">
          No documentation and no completion: {refusal}
        </p>
      )}
      <GraphiQL
        fetcher={fetcher}
        schema={refusal === null ? undefined : null}
        defaultTabs={tabs.current}
        storage={sessionStorage}
        forcedTheme="system"
        defaultEditorToolsVisibility="variables"
        showPersistHeadersSettings={false}
      />
    </>
  );
}
