/** The operations that the page sends and shows. They live in files so that a test can hold them against the schema. */

import starterList from "./operations/starters.json";

const sources = import.meta.glob<string>("./operations/*.graphql", { query: "?raw", import: "default", eager: true });

export function operation(name: string): string {
  const source = sources[`./operations/${name}.graphql`];
  if (source === undefined) throw new Error(`There is no operation named ${name}.`);
  return source;
}

/** One GraphiQL tab each, in the order in which a newcomer would try them. */
export const starters = starterList.map((starter: { operation: string; variables?: object }) => ({
  query: operation(starter.operation),
  variables: starter.variables ? JSON.stringify(starter.variables, null, 2) : null,
}));
