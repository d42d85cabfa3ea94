/** The operations that the page sends and shows. They live in files so that a test can hold them against the schema. */

import starterList from "./operations/starters.json";

const sources = import.meta.glob<string>("./operations/*.graphql", { query: "?raw", import: "default", eager: true });

export function operation(name: string): string {
  const source = sources[`./operations/${name}.graphql`];
  if (source === undefined) throw new Error(`There is no operation named ${name}.`);
  return source;
}

type Starter = { operation: string; variables?: { input: object } };

/** One GraphiQL tab each, in the order in which a newcomer would try them. They ask the model `model`. */
export const starters = (model: string) =>
  starterList.map(({ operation: name, variables }: Starter) => ({
    query: operation(name),
    variables: variables ? JSON.stringify({ input: { model, ...variables.input } }, null, 2) : null,
  }));
