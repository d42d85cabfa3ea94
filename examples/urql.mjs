// Stream a generation with urql, HTTP and WebSocket: node urql.mjs "Tell me a story" smollm2:135m
import { Client, fetchExchange, subscriptionExchange } from "@urql/core";
import { createClient } from "graphql-ws";
import { toAsyncIterable } from "wonka";
import WebSocket from "ws"; // Node.js 22 and browsers have their own: leave out this line and webSocketImpl
import {
  START, WATCH, Refused, authorization, cancelOnInterrupt, follow, idOf, request, tell, url, webSocketUrl,
} from "./generation.mjs";

const headers = { authorization: await authorization() };
const socket = createClient({
  url: webSocketUrl,
  webSocketImpl: WebSocket,
  connectionParams: headers,
  retryAttempts: 0, // `follow` comes back by itself, behind what it has seen
});
const client = new Client({
  url,
  preferGetMethod: false,
  fetchOptions: { headers },
  exchanges: [
    subscriptionExchange({
      forwardSubscription: (operation) => ({
        subscribe: (sink) => ({ unsubscribe: socket.subscribe(operation, sink) }),
      }),
    }),
    fetchExchange,
  ],
});

function dataOf({ data, error }) {
  if (error) throw error.networkError ?? new Refused(error.graphQLErrors);
  return data;
}

async function watch(variables, see) {
  for await (const result of toAsyncIterable(client.subscription(WATCH, variables))) see(dataOf(result).generation);
}

const id = idOf(dataOf(await client.mutation(START, request())));
cancelOnInterrupt(id, headers);
tell(await follow(id, watch));
await socket.dispose();
