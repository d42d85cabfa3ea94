// Stream a generation with urql over HTTP alone: node urql-sse.mjs "Tell me a story" smollm2:135m
import { Client, fetchExchange } from "@urql/core";
import { toAsyncIterable } from "wonka";
import {
  START, WATCH, Refused, authorization, cancelOnInterrupt, follow, idOf, request, tell, url,
} from "./generation.mjs";

const headers = { authorization: await authorization() };
const client = new Client({
  url,
  preferGetMethod: false,
  fetchOptions: { headers },
  fetchSubscriptions: true,
  exchanges: [fetchExchange],
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
