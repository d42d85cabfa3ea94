// Asking the gateway: queries and mutations with fetch, subscriptions as server-sent events.
import { createClient, type Client } from "graphql-sse";
import type { TypedDocumentString, WatchSubscription } from "./gql/graphql";
import { WATCH } from "./operations";

export type Gateway = { url: string; key: string };
export type Event = WatchSubscription["generation"];

const ENDS = new Set<string | undefined>(["GenerationCompleted", "GenerationCancelled", "GenerationFailed"]);

/** The gateway answered, with errors: asking again is of no use. */
export class Refused extends Error {}

export async function ask<Data, Variables>(
  { url, key }: Gateway,
  document: TypedDocumentString<Data, Variables>,
  variables: Variables,
): Promise<Data> {
  const response = await fetch(url, {
    method: "POST",
    headers: { "Content-Type": "application/json", Authorization: `Bearer ${key}` },
    body: JSON.stringify({ query: document.toString(), variables }),
  });
  const { data, errors } = (await response.json()) as { data: Data; errors?: { message: string }[] };
  if (errors) throw new Refused(errors[0]!.message);
  return data;
}

/** The events of a generation from its beginning to its end, with a new connection whenever one is lost. */
export async function* follow(gateway: Gateway, id: string, signal: AbortSignal): AsyncGenerator<Event> {
  const client = createClient({
    url: gateway.url,
    headers: { Authorization: `Bearer ${gateway.key}` },
    retryAttempts: 0, // this loop comes back by itself, behind what it has seen
  });
  signal.addEventListener("abort", () => client.dispose());
  let after = 0;
  for (let failures = 0; !signal.aborted && failures <= 8; failures++) {
    if (failures) await new Promise((resolve) => setTimeout(resolve, 50 * 2 ** failures)); // 0.1 s, 0.2 ... 12.8
    try {
      for await (const event of watch(client, id, after)) {
        failures = 0;
        after = event.sequence;
        yield event;
        if (ENDS.has(event.__typename)) return;
      }
    } catch (error) {
      if (error instanceof Refused || failures === 8) throw error;
    }
  }
}

async function* watch(client: Client, id: string, after: number): AsyncGenerator<Event> {
  const results = client.iterate<WatchSubscription>({ query: WATCH.toString(), variables: { id, after } });
  for await (const { data, errors } of results) {
    if (errors) throw new Refused(errors[0]!.message);
    if (data) yield data.generation;
  }
}
