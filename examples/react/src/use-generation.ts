// One generation in a component: what it says, how it ends, and that a reload of the tab loses nothing of it.
import { useEffect, useState } from "react";
import { Refused, ask, follow, type Event, type Gateway } from "./gateway";
import { CANCEL, START } from "./operations";

type Answer = { text: string; end: string | null };

const NOTHING: Answer = { text: "", end: null };
const KEPT = "generation"; // the id in sessionStorage, which is the tab's own

/** An answer after one more event. A delta has the place where it belongs, so one that comes twice changes nothing. */
function after(answer: Answer, event: Event): Answer {
  switch (event.__typename) {
    case "TextDelta":
      return { ...answer, text: answer.text.slice(0, event.offset) + event.text };
    case "GenerationCompleted":
      return { ...answer, end: `${event.finishReason}: ${event.usage.completionTokens} tokens` };
    case "GenerationCancelled":
      return { ...answer, end: `CANCELLED: ${event.usage.completionTokens} tokens` };
    case "GenerationFailed":
      return { ...answer, end: event.error.message };
    default:
      return answer;
  }
}

export function useGeneration(gateway: Gateway) {
  const [id, setId] = useState(() => sessionStorage.getItem(KEPT));
  const [answer, setAnswer] = useState(NOTHING);
  const { url, key } = gateway;

  useEffect(() => {
    if (!id || !key) return;
    const leaving = new AbortController();
    async function watch(id: string) {
      try {
        for await (const event of follow({ url, key }, id, leaving.signal)) setAnswer((answer) => after(answer, event));
      } catch (error) {
        if (!leaving.signal.aborted) setAnswer((answer) => ({ ...answer, end: String(error) }));
      }
    }
    setAnswer(NOTHING);
    void watch(id);
    return () => leaving.abort();
  }, [id, url, key]);

  async function start(model: string, prompt: string) {
    // Without CONTINUE, the model stops as soon as a connection is lost.
    const { startGeneration } = await ask(gateway, START, { input: { model, prompt: { text: prompt }, onDisconnect: "CONTINUE" } });
    if (startGeneration?.__typename !== "StartGenerationSuccess") throw new Refused(startGeneration?.message);
    sessionStorage.setItem(KEPT, startGeneration.generation.id);
    setId(startGeneration.generation.id);
  }

  async function cancel() {
    if (id) await ask(gateway, CANCEL, { id });
  }

  return { ...answer, running: id !== null && answer.end === null, start, cancel };
}
