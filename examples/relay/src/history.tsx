// The caller's generations, page by page: a connection in a fragment that can be fetched again.
import { graphql, useFragment, useLazyLoadQuery, usePaginationFragment } from "react-relay";
import type { historyQuery } from "./__generated__/historyQuery.graphql";
import type { history_row$key } from "./__generated__/history_row.graphql";
import type { history_viewer$key } from "./__generated__/history_viewer.graphql";

/** The list; `version` is raised to have it fetched anew. */
export function History({ version }: { version: number }) {
  const query = useLazyLoadQuery<historyQuery>(
    graphql`
      query historyQuery($count: Int!) {
        ...history_viewer @arguments(count: $count)
      }
    `,
    { count: 2 },
    { fetchPolicy: "network-only", fetchKey: version },
  );
  return <Pages query={query} />;
}

function Pages({ query }: { query: history_viewer$key }) {
  const { data, hasNext, isLoadingNext, loadNext } = usePaginationFragment(
    graphql`
      fragment history_viewer on Query
      @argumentDefinitions(count: { type: "Int", defaultValue: 20 }, cursor: { type: "String" })
      @refetchable(queryName: "historyPaginationQuery") {
        generations(first: $count, after: $cursor) @connection(key: "history_generations") {
          edges { node { id ...history_row } }
        }
      }
    `,
    query,
  );
  return (
    <section>
      <ul aria-label="History">
        {data.generations?.edges.map(({ node }) => <Row key={node.id} generation={node} />)}
      </ul>
      <button disabled={!hasNext || isLoadingNext} onClick={() => loadNext(2)}>More</button>
    </section>
  );
}

function Row({ generation }: { generation: history_row$key }) {
  const { modelName, state, usage } = useFragment(
    graphql`
      fragment history_row on Generation {
        modelName
        state
        usage { completionTokens }
      }
    `,
    generation,
  );
  return <li>{`${modelName}: ${state}, ${usage?.completionTokens ?? 0} tokens`}</li>;
}
