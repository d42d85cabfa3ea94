/** What went to the gateway and came back, for the debug view: names, states and times, and never a value. */

import { useSyncExternalStore } from "react";

export type Entry = { id: number; at: number; kind: "Request" | "Event" | "Socket"; text: string };
type Log = { entries: readonly Entry[]; socket: string };

const MOST = 200;

let log: Log = { entries: [], socket: "not opened yet" };
let count = 0;
const listeners = new Set<() => void>();

function become(next: Log) {
  log = next;
  for (const listener of listeners) listener();
}

export function note(kind: Entry["kind"], text: string) {
  const entry = { id: (count += 1), at: Date.now(), kind, text };
  become({ ...log, entries: [entry, ...log.entries].slice(0, MOST) });
}

/** Notes what became of the WebSocket, and keeps it as its state. */
export function noteSocket(state: string) {
  log = { ...log, socket: state };
  note("Socket", state);
}

export const clear = () => become({ ...log, entries: [] });

export const useDebugLog = (): Log =>
  useSyncExternalStore(
    (changed) => {
      listeners.add(changed);
      return () => listeners.delete(changed);
    },
    () => log,
  );

/** The kind and the name of the operation in a document. */
export const nameOf = (source: string): string =>
  /\b(?:query|mutation|subscription)\s+\w+/.exec(source)?.[0] ?? "an operation without a name";
