// Starting a generation, and watching it to its end.
import { useEffect, useState } from "react";
import { graphql, readInlineData, requestSubscription, useMutation, useRelayEnvironment } from "react-relay";
import type { useGeneration_result$key } from "./__generated__/useGeneration_result.graphql";
import type { useGenerationStartMutation } from "./__generated__/useGenerationStartMutation.graphql";
import type { useGenerationWatchSubscription } from "./__generated__/useGenerationWatchSubscription.graphql";

// A result is a union: its success by name, and every refusal by the interface, also those that come later.
const RESULT = graphql`
  fragment useGeneration_result on StartGenerationResult @inline {
    __typename
    ... on StartGenerationSuccess { generation { id } }
    ... on UserError { message }
  }
`;

const START = graphql`
  mutation useGenerationStartMutation($input: GenerateInput!) {
    startGeneration(input: $input) { ...useGeneration_result }
  }
`;

const WATCH = graphql`
  subscription useGenerationWatchSubscription($id: ID!, $after: Int!) {
    generation(id: $id, after: $after) {
      __typename
      ... on TextDelta { sequence text offset }
      ... on GenerationCompleted { finishReason usage { completionTokens } }
      ... on GenerationCancelled { cancelReason }
      ... on GenerationFailed { error { message } }
    }
  }
`;

type Event = useGenerationWatchSubscription["response"]["generation"];
type Answer = { text: string; end: string | null };

const NOTHING: Answer = { text: "", end: null };
const MOST_FAILURES = 8;

/** An answer after one more event. A delta has the place where it belongs, so one that comes twice changes nothing. */
function after(answer: Answer, event: Event): Answer {
  switch (event.__typename) {
    case "TextDelta":
      return { ...answer, text: answer.text.slice(0, event.offset) + event.text };
    case "GenerationCompleted":
      return { ...answer, end: `${event.finishReason}: ${event.usage.completionTokens} tokens` };
    case "GenerationCancelled":
      return { ...answer, end: `CANCELLED: ${event.cancelReason}` };
    case "GenerationFailed":
      return { ...answer, end: event.error.message };
    default:
      return answer;
  }
}

export function useGeneration(onEnd: () => void) {
  const environment = useRelayEnvironment();
  const [commit] = useMutation<useGenerationStartMutation>(START);
  const [id, setId] = useState<string | null>(null);
  const [answer, setAnswer] = useState(NOTHING);

  useEffect(() => {
    if (id === null) return;
    let [seen, failures, ended, left] = [0, 0, false, false];
    let watching: { dispose(): void } | undefined;
    function watch(id: string) {
      if (left) return;
      watching = requestSubscription<useGenerationWatchSubscription>(environment, {
        subscription: WATCH,
        variables: { id, after: seen },
        onNext(data) {
          const event = data?.generation;
          if (!event) return;
          failures = 0;
          if (event.__typename === "TextDelta") seen = event.sequence;
          setAnswer((answer) => after(answer, event));
          if (/Completed|Cancelled|Failed/.test(event.__typename)) {
            ended = true;
            onEnd();
          }
        },
        onError(error) {
          // A lost connection: go on after the last event that was seen.
          if (!ended && ++failures <= MOST_FAILURES) setTimeout(watch, 50 * 2 ** failures, id);
          else if (!ended) setAnswer((answer) => ({ ...answer, end: error.message }));
        },
      });
    }
    watch(id);
    return () => {
      left = true;
      watching?.dispose();
    };
  }, [environment, id, onEnd]);

  function start(model: string, prompt: string) {
    setAnswer(NOTHING);
    setId(null);
    commit({
      // Without CONTINUE, the model stops as soon as a connection is lost.
      variables: { input: { model, prompt: { text: prompt }, onDisconnect: "CONTINUE" } },
      onCompleted(data) {
        const result = readInlineData<useGeneration_result$key>(RESULT, data.startGeneration ?? null);
        if (result?.__typename === "StartGenerationSuccess" && result.generation) setId(result.generation.id);
        else setAnswer({ text: "", end: result?.message ?? "There is no answer." });
      },
      onError: (error) => setAnswer({ text: "", end: error.message }),
    });
  }

  return { ...answer, running: id !== null && answer.end === null, start };
}
