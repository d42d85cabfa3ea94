// Stream a generation with Apollo Client, HTTP and WebSocket: node apollo.mjs "Tell me a story" smollm2:135m
import { ApolloClient, ApolloLink, CombinedGraphQLErrors, HttpLink, InMemoryCache, gql } from "@apollo/client";
import { GraphQLWsLink } from "@apollo/client/link/subscriptions";
import { OperationTypeNode } from "graphql";
import { createClient } from "graphql-ws";
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
const client = new ApolloClient({
  cache: new InMemoryCache(),
  link: ApolloLink.split(
    ({ operationType }) => operationType === OperationTypeNode.SUBSCRIPTION,
    new GraphQLWsLink(socket),
    new HttpLink({ uri: url, headers }),
  ),
});

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
await socket.dispose();
