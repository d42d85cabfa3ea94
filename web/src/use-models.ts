/** The models and the model servers behind them, asked again as long as something is missing. */

import { useCallback, useEffect, useRef, useState } from "react";
import { describe, type Gateway } from "./gateway";
import { operation } from "./operations";

export type Model = { name: string; available: boolean; capabilities: string[] | null };
export type Backend = {
  name: string;
  ready: boolean;
  error: string | null;
  breaker: "CLOSED" | "OPEN" | "HALF_OPEN";
};

type Answer = { models: Model[]; backends: Backend[] | null };

const FIRST_DELAY = 2_000;
const LONGEST_DELAY = 16_000;

/** A backend that does not tell what a model can do leaves it to be tried. */
const answers = ({ capabilities }: Model): boolean => capabilities?.includes("COMPLETION") ?? true;

const isComplete = ({ models, backends }: Answer): boolean =>
  models.some(answers) && (backends ?? []).every(({ ready, breaker }) => ready && breaker === "CLOSED");

/**
 * `models` and `backends` are undefined until they are known, and stay as they were when the gateway cannot be asked:
 * `problem` then tells why. `reload` asks at once.
 */
export function useModels(gateway: Gateway) {
  const [known, setKnown] = useState<Answer>();
  const [problem, setProblem] = useState("");
  const [busy, setBusy] = useState(false);
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  const delay = useRef(FIRST_DELAY);
  const asked = useRef(0);

  const load = useCallback(async () => {
    clearTimeout(timer.current);
    const mine = ++asked.current;
    let complete = false;
    setBusy(true);
    try {
      const answer = await gateway.request<Answer>(operation("Models"));
      if (mine !== asked.current) return;
      complete = isComplete(answer);
      setKnown(answer);
      setProblem("");
    } catch (error) {
      if (mine !== asked.current) return;
      setProblem(describe(error));
    }
    setBusy(false);
    if (complete) {
      delay.current = FIRST_DELAY;
    } else {
      timer.current = setTimeout(() => void load(), delay.current);
      delay.current = Math.min(delay.current * 2, LONGEST_DELAY);
    }
  }, [gateway]);

  const reload = useCallback(() => {
    delay.current = FIRST_DELAY;
    void load();
  }, [load]);

  useEffect(() => {
    const look = () => document.visibilityState === "visible" && reload();
    reload();
    document.addEventListener("visibilitychange", look);
    addEventListener("online", look);
    return () => {
      asked.current++;
      clearTimeout(timer.current);
      document.removeEventListener("visibilitychange", look);
      removeEventListener("online", look);
    };
  }, [reload]);

  return { models: known?.models.filter(answers), backends: known?.backends ?? undefined, problem, busy, reload };
}
