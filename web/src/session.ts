/** What the page remembers, in sessionStorage: it ends with the browser tab and no other tab can read it. */

export type Session = { token: string; kind: "password" | "key" };

const SESSION = "ollagraph:session";
const DRAFT = "ollagraph:draft";

export function readSession(): Session | null {
  try {
    const value = JSON.parse(sessionStorage.getItem(SESSION) ?? "null") as Session | null;
    return typeof value?.token === "string" ? value : null;
  } catch {
    return null;
  }
}

export function keepSession(session: Session): void {
  sessionStorage.setItem(SESSION, JSON.stringify(session));
}

/** The token alone goes: the prompt and the tabs wait for the same person to sign in again. */
export function dropSession(): void {
  sessionStorage.removeItem(SESSION);
}

/** Signing out leaves nothing behind for whoever sits here next. */
export function forgetEverything(): void {
  sessionStorage.clear();
}

export const readDraft = (): string | null => sessionStorage.getItem(DRAFT);
export const keepDraft = (text: string): void => sessionStorage.setItem(DRAFT, text);
