/** What the page remembers, in sessionStorage: it ends with the browser tab and no other tab can read it. */

const KEY = "ollagraph:key";
const DRAFT = "ollagraph:draft";

/** An API key, for who signed in with one. What a session needs is in a cookie, and the access token in memory alone. */
export const readKey = (): string | null => sessionStorage.getItem(KEY);
export const keepKey = (key: string): void => sessionStorage.setItem(KEY, key);

/** The key alone goes: the prompt and GraphiQL's tabs wait for the same person to sign in again. */
export const dropKey = (): void => sessionStorage.removeItem(KEY);

/** Signing out leaves nothing behind for whoever sits here next. */
export const forgetEverything = (): void => sessionStorage.clear();

/** The answer that this tab watches: after a reload it is watched again. */
const WATCHED = "ollagraph:watched";
export const readWatched = (): string | null => sessionStorage.getItem(WATCHED);
export const keepWatched = (id: string): void => sessionStorage.setItem(WATCHED, id);
export const dropWatched = (): void => sessionStorage.removeItem(WATCHED);

export const readDraft = (): string | null => sessionStorage.getItem(DRAFT);
export const keepDraft = (text: string): void => sessionStorage.setItem(DRAFT, text);
