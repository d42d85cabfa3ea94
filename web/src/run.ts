/** One answer as it grows: a value, and the pure function that applies an event of the gateway to it. */

export type TokenUsage = { promptTokens: number; completionTokens: number; source: string };

type Numbered = { generationId: string; sequence: number };
export type GenerationEvent = Numbered &
  (
    | { __typename: "GenerationQueued"; position: number }
    | { __typename: "GenerationStarted" }
    | { __typename: "TextDelta" | "ThinkingDelta"; text: string; offset: number }
    | { __typename: "ToolCallRequested" }
    | { __typename: "GenerationCompleted"; finishReason: string; usage: TokenUsage }
    | { __typename: "GenerationFailed"; code: string; message: string; usage: TokenUsage }
  );

/** Times are milliseconds of performance.now(). */
export type Run = {
  state: "running" | "completed" | "failed" | "stopped";
  generationId?: string;
  /** Of the last event seen. */
  sequence: number;
  position?: number;
  thinking: string;
  text: string;
  startedAt: number;
  firstTokenAt?: number;
  endedAt?: number;
  finishReason?: string;
  usage?: TokenUsage;
  error?: string;
};

export const begin = (now: number): Run => ({ state: "running", sequence: 0, thinking: "", text: "", startedAt: now });

/** `offset` says where `text` begins in the whole output, so a delta that comes twice changes nothing. */
const splice = (whole: string, { text, offset }: { text: string; offset: number }): string =>
  whole.slice(0, offset) + text;

export function apply(run: Run, event: GenerationEvent, now: number): Run {
  const known = { ...run, generationId: event.generationId, sequence: event.sequence };
  switch (event.__typename) {
    case "GenerationQueued":
      return { ...known, position: event.position };
    case "GenerationStarted":
      return { ...known, position: undefined };
    case "ThinkingDelta":
      return { ...known, firstTokenAt: run.firstTokenAt ?? now, thinking: splice(run.thinking, event) };
    case "TextDelta":
      return { ...known, firstTokenAt: run.firstTokenAt ?? now, text: splice(run.text, event) };
    case "GenerationCompleted":
      return { ...known, state: "completed", endedAt: now, finishReason: event.finishReason, usage: event.usage };
    case "GenerationFailed":
      return { ...known, state: "failed", endedAt: now, error: event.message, usage: event.usage };
    default:
      return known;
  }
}

/** The stream broke, or ended without a last event. */
export const fail = (run: Run, error: string, now: number): Run =>
  run.state === "running" ? { ...run, state: "failed", error, endedAt: now } : run;

export const stop = (run: Run, now: number): Run =>
  run.state === "running" ? { ...run, state: "stopped", endedAt: now } : run;

/** Tokens a second from the first one to the end, as seen here; undefined where there is too little to measure. */
export function tokensPerSecond({ usage, firstTokenAt, endedAt }: Run): number | undefined {
  if (!usage || firstTokenAt === undefined || endedAt === undefined) return undefined;
  const intervals = usage.completionTokens - 1;
  const seconds = (endedAt - firstTokenAt) / 1000;
  return intervals > 0 && seconds > 0 ? intervals / seconds : undefined;
}
