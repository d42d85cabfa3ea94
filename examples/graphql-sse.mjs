// Stream a generation with graphql-sse, over HTTP alone: node graphql-sse.mjs "Tell me a story" smollm2:135m
import { createClient } from "graphql-sse";
import {
  START, WATCH, Refused, authorization, cancelOnInterrupt, follow, idOf, post, request, tell, url,
} from "./generation.mjs";

const headers = { authorization: await authorization() };
// `follow` comes back by itself, behind what it has seen.
const client = createClient({ url, headers, retryAttempts: 0 });

async function watch(variables, see) {
  for await (const { data, errors } of client.iterate({ query: WATCH, variables })) {
    if (errors) throw new Refused(errors);
    see(data.generation);
  }
}

const id = idOf(await post(START, request(), headers));
cancelOnInterrupt(id, headers);
tell(await follow(id, watch));
client.dispose();
