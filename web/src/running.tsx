/** What is under way and not watched here: a reloaded page, or another one, finds its answers again. */

import { useCallback, useEffect, useRef, useState } from "react";
import type { Gateway } from "./gateway";
import { operation } from "./operations";

export type Underway = { id: string; modelName: string; state: string; createdAt: string };

const REFRESH_MS = 3_000;

/**
 * The list is read anew whenever `occasion` is another, when the tab is looked at again, and every few seconds while
 * something is in it. To subscribe to each would be live, but would count as watching: the last viewer's leaving ends
 * an answer that its app only asks about from time to time.
 */
export function useUnderway(gateway: Gateway, watched: string | undefined, occasion: string): Underway[] {
  const [underway, setUnderway] = useState<Underway[]>([]);
  const asked = useRef(0);

  const read = useCallback(async () => {
    const mine = ++asked.current;
    try {
      const data = await gateway.request<{ generations: { nodes: Underway[] } }>(operation("Running"));
      if (mine === asked.current) setUnderway(data.generations.nodes);
    } catch {
      return; // what is wrong is told where the models are
    }
  }, [gateway]);

  useEffect(() => void read(), [read, occasion]);

  const others = underway.filter(({ id }) => id !== watched);
  const isListed = others.length > 0;
  useEffect(() => {
    const look = () => document.visibilityState === "visible" && void read();
    const timer = isListed ? setInterval(look, REFRESH_MS) : undefined;
    document.addEventListener("visibilitychange", look);
    addEventListener("focus", look);
    return () => {
      clearInterval(timer);
      document.removeEventListener("visibilitychange", look);
      removeEventListener("focus", look);
    };
  }, [read, isListed]);

  return others;
}

export function Running({ underway, open }: { underway: Underway[]; open: (id: string) => void }) {
  if (!underway.length) return null;
  return (
    <section className="running" aria-label="Running">
      <h2>Running</h2>
      <ul>
        {underway.map(({ id, modelName, state, createdAt }) => (
          <li key={id}>
            <button type="button" onClick={() => open(id)}>
              Watch {modelName}
            </button>{" "}
            <span className="hint">
              {state === "QUEUED" ? "waiting" : "running"}, asked for at {new Date(createdAt).toLocaleTimeString()}
            </span>
          </li>
        ))}
      </ul>
    </section>
  );
}
