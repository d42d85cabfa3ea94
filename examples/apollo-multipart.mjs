// Stream a generation with Apollo Client over HTTP alone: node apollo-multipart.mjs "Tell me a story" smollm2:135m
import { ApolloClient, CombinedGraphQLErrors, HttpLink, InMemoryCache, gql } from "@apollo/client";
import {
  START, WATCH, Refused, authorization, cancelOnInterrupt, follow, idOf, request, tell, url,
} from "./generation.mjs";

const headers = { authorization: await authorization() };
const client = new ApolloClient({ cache: new InMemoryCache(), link: new HttpLink({ uri: url, headers }) });

function dataOf({ data, error }) {
  if (error) throw CombinedGraphQLErrors.is(error) ? new Refused(error.errors) : error;
  return data;
}

async function watch(variables, see) {
  const results = client.subscribe({ query: gql(WATCH), variables, fetchPolicy: "no-cache" });
  await results.forEach((result) => see(dataOf(result).generation));
}

// Through the cache, `... on UserError` would give nothing until `possibleTypes` tells it what implements it.
const started = { mutation: gql(START), variables: request(), fetchPolicy: "no-cache" };
const id = idOf(dataOf(await client.mutate({ ...started, errorPolicy: "all" })));
cancelOnInterrupt(id, headers);
tell(await follow(id, watch));
client.stop();
