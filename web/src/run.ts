/** One answer as it grows: a value, and the pure function that applies an event of the gateway to it. */

export type TokenUsage = { promptTokens: number; completionTokens: number; source: string };

/** The gateway's own measurements. A browser that comes late sees the whole answer in an instant. */
export type Timings = {
  timeToFirstTokenMs: number | null;
  totalMs: number | null;
  tokensPerSecond: number | null;
};

type Numbered = { generationId: string; sequence: number };
export type GenerationEvent = Numbered &
  (
    | { __typename: "GenerationQueued"; position: number; reason: "BUSY" | "LOADING" }
    | { __typename: "GenerationStarted" }
    | { __typename: "TextDelta" | "ThinkingDelta"; text: string; offset: number }
    | { __typename: "ToolCallRequested" }
    | { __typename: "GenerationCompleted"; finishReason: string; usage: TokenUsage }
    | { __typename: "GenerationCancelled"; cancelReason: string; usage: TokenUsage }
    | { __typename: "GenerationFailed"; error: { code: string; message: string }; usage: TokenUsage }
  );

/** The only event of a `generate` that was refused. */
export type Refused = { __typename: "GenerationRefused"; error: { code: string; message: string } };

export type Run = {
  /** "gone": it was there, and what it said is no longer kept. */
  state: "running" | "completed" | "failed" | "stopped" | "gone";
  generationId?: string;
  /** Whether it was started before, here or elsewhere. */
  found: boolean;
  /** Of the last event seen. */
  sequence: number;
  position?: number;
  /** Whether the model server loads the model. */
  loading: boolean;
  thinking: string;
  text: string;
  finishReason?: string;
  usage?: TokenUsage;
  timings?: Timings;
  error?: string;
};

/** A new answer, or with an id one that was started before. */
export const begin = (generationId?: string): Run => ({
  state: "running",
  generationId,
  found: generationId !== undefined,
  sequence: 0,
  loading: false,
  thinking: "",
  text: "",
});

/** `offset` says where `text` begins in the whole output, so a delta that comes twice changes nothing. */
const splice = (whole: string, { text, offset }: { text: string; offset: number }): string =>
  whole.slice(0, offset) + text;

export function apply(run: Run, event: GenerationEvent): Run {
  const known = { ...run, generationId: event.generationId, sequence: event.sequence };
  switch (event.__typename) {
    case "GenerationQueued":
      return { ...known, position: event.position, loading: event.reason === "LOADING" };
    case "GenerationStarted":
      return { ...known, position: undefined };
    case "ThinkingDelta":
      return { ...known, thinking: splice(run.thinking, event) };
    case "TextDelta":
      return { ...known, text: splice(run.text, event) };
    case "GenerationCompleted":
      return { ...known, state: "completed", finishReason: event.finishReason, usage: event.usage };
    case "GenerationCancelled":
      return { ...known, state: "stopped", usage: event.usage };
    case "GenerationFailed":
      return { ...known, state: "failed", error: event.error.message, usage: event.usage };
    default:
      return known;
  }
}

/** Ends what still runs: the stream broke, or was left. */
export const end = (run: Run, state: "failed" | "stopped" | "gone", error?: string): Run =>
  run.state === "running" ? { ...run, state, error } : run;
