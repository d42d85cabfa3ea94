// Stream a generation with graphql-ws alone: node graphql-ws.mjs "Tell me a story" smollm2:135m
import { createClient } from "graphql-ws";
import WebSocket from "ws"; // Node.js 22 and browsers have their own: leave out this line and webSocketImpl
import {
  START, WATCH, Refused, authorization, cancelOnInterrupt, follow, idOf, post, request, tell, webSocketUrl,
} from "./generation.mjs";

const headers = { authorization: await authorization() };
const client = createClient({
  url: webSocketUrl,
  webSocketImpl: WebSocket,
  connectionParams: headers,
  retryAttempts: 0, // `follow` comes back by itself, behind what it has seen
});

async function watch(variables, see) {
  try {
    for await (const { data, errors } of client.iterate({ query: WATCH, variables })) {
      if (errors) throw new Refused(errors);
      see(data.generation);
    }
  } catch (error) {
    throw Array.isArray(error) ? new Refused(error) : error;
  }
}

const id = idOf(await post(START, request(), headers));
cancelOnInterrupt(id, headers);
tell(await follow(id, watch));
await client.dispose();
