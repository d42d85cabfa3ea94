/** The one answer that is watched: started here, or found again. */

import { useEffect, useRef, useState } from "react";
import type { Gateway, StreamHandlers } from "./gateway";
import { operation } from "./operations";
import { apply, begin, end, type GenerationEvent, type Run, type Timings, type TokenUsage } from "./run";
import { dropWatched, keepWatched, readWatched } from "./session";

/** One subscription after the other for the same answer. Only the newest may change what is shown. */
type Watch = { stop: () => void; cameBackAt: number };

type Measured = { generation: { usage: TokenUsage | null; timings: Timings } | null };

/** Codes that tell that an answer cannot be watched any more, however often it is asked for. */
const GONE = new Set(["STREAM_EXPIRED", "NOT_FOUND", "INVALID_INPUT"]);

/** The answer is painted once a frame, however fast the tokens come. */
export function useRun(gateway: Gateway) {
  const [shown, setShown] = useState<Run>();
  const latest = useRef<Run>(undefined);
  const frame = useRef(0);
  const watch = useRef<Watch>(undefined);

  function paint() {
    cancelAnimationFrame(frame.current);
    frame.current = 0;
    setShown(latest.current);
  }

  function update(change: (run: Run) => Run) {
    if (!latest.current) return;
    latest.current = change(latest.current);
    if (latest.current.state !== "running") paint();
    else if (!frame.current) frame.current = requestAnimationFrame(paint);
  }

  function show(run: Run, subscribe: (handlers: StreamHandlers) => () => void) {
    watch.current?.stop();
    const mine: Watch = { stop: () => undefined, cameBackAt: -1 };
    const ifShown =
      <Arguments extends unknown[]>(handle: (...given: Arguments) => void) =>
      (...given: Arguments) => {
        if (watch.current === mine) handle(...given);
      };
    const handlers: StreamHandlers = {
      next: ifShown(take),
      failed: ifShown((reason, code) => comeBack(mine, handlers, reason, code)),
      ended: ifShown(() => comeBack(mine, handlers, "The stream ended before the answer did.")),
    };
    watch.current = mine;
    latest.current = run;
    paint();
    mine.stop = subscribe(handlers);
  }

  function take(event: GenerationEvent) {
    keepWatched(event.generationId);
    update((run) => apply(run, event));
    if (latest.current?.state !== "running") {
      dropWatched();
      void measure(event.generationId);
    }
  }

  /** A stream that broke goes on behind the last event seen, once for each event; else the reason is told. */
  function comeBack(mine: Watch, handlers: StreamHandlers, reason: string, code?: string) {
    const run = latest.current;
    if (run?.state !== "running") return;
    if (run.generationId && code && GONE.has(code)) {
      dropWatched();
      update((one) => end(one, "gone", reason));
      void measure(run.generationId);
    } else if (!run.generationId || mine.cameBackAt === run.sequence) {
      update((one) => end(one, "failed", reason));
    } else {
      mine.cameBackAt = run.sequence;
      mine.stop = gateway.watch(run.generationId, run.sequence, handlers);
    }
  }

  /** What it used and how long it took; without an answer the line below the text is shorter. */
  async function measure(id: string) {
    try {
      const { generation } = await gateway.request<Measured>(operation("Timings"), { id });
      if (generation && latest.current?.generationId === id) {
        update((run) => ({ ...run, usage: run.usage ?? generation.usage ?? undefined, timings: generation.timings }));
      }
    } catch {
      return;
    }
  }

  const start = (model: string, prompt: string) => {
    dropWatched();
    show(begin(), (handlers) => gateway.stream({ model, prompt: { text: prompt } }, handlers));
  };
  const open = (id: string) => {
    keepWatched(id);
    show(begin(id), (handlers) => gateway.watch(id, 0, handlers));
  };

  /** Asks the gateway to stop, and goes on listening: the last event tells what was used. */
  async function cancel() {
    const id = latest.current?.generationId;
    try {
      if (!id) throw new Error("nothing has started yet");
      await gateway.request(operation("CancelGeneration"), { id });
    } catch {
      update((run) => end(run, "stopped"));
      watch.current?.stop();
    }
  }

  useEffect(() => {
    // What this tab watched before a reload is watched again at once, without a look-up that something new could outrun.
    const watched = readWatched();
    if (watched) open(watched);
    return () => {
      cancelAnimationFrame(frame.current);
      watch.current?.stop();
      watch.current = undefined;
    };
    // `open` is another function each time; once for each gateway is enough
  }, [gateway]);
  return { run: shown, start, open, cancel };
}
