// Relay's network layer: queries and mutations with fetch, subscriptions as server-sent events.
import { createClient } from "graphql-sse";
import { Environment, Network, Observable, RecordSource, Store, type GraphQLResponse } from "relay-runtime";

export function makeEnvironment(url: string, key: string): Environment {
  const headers = { Authorization: `Bearer ${key}` };
  // Without retries: a lost stream is watched again by whoever knows the last sequence number (use-generation.ts).
  const streams = createClient({ url, headers, retryAttempts: 0 });
  const network = Network.create(
    async ({ text, name }, variables) => {
      const response = await fetch(url, {
        method: "POST",
        headers: { "Content-Type": "application/json", ...headers },
        body: JSON.stringify({ query: text, operationName: name, variables }),
      });
      return (await response.json()) as GraphQLResponse;
    },
    ({ text, name }, variables) =>
      Observable.create<GraphQLResponse>((sink) =>
        streams.subscribe(
          { query: text ?? "", operationName: name, variables },
          {
            next: (result) => sink.next(result as GraphQLResponse),
            error: (error) => sink.error(error instanceof Error ? error : new Error(String(error))),
            complete: () => sink.complete(),
          },
        ),
      ),
  );
  return new Environment({ network, store: new Store(new RecordSource()) });
}
