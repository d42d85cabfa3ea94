/** What the page remembers, in sessionStorage: it ends with the browser tab and no other tab can read it. */

const TOKEN = "ollagraph:token";
const DRAFT = "ollagraph:draft";

/** An access token or an API key: the gateway takes both in the same place. */
export const readToken = (): string | null => sessionStorage.getItem(TOKEN);
export const keepToken = (token: string): void => sessionStorage.setItem(TOKEN, token);

/** The token alone goes: the prompt and GraphiQL's tabs wait for the same person to sign in again. */
export const dropToken = (): void => sessionStorage.removeItem(TOKEN);

/** Signing out leaves nothing behind for whoever sits here next. */
export const forgetEverything = (): void => sessionStorage.clear();

/** The answer that this tab watches: after a reload it is watched again. */
const WATCHED = "ollagraph:watched";
export const readWatched = (): string | null => sessionStorage.getItem(WATCHED);
export const keepWatched = (id: string): void => sessionStorage.setItem(WATCHED, id);
export const dropWatched = (): void => sessionStorage.removeItem(WATCHED);

export const readDraft = (): string | null => sessionStorage.getItem(DRAFT);
export const keepDraft = (text: string): void => sessionStorage.setItem(DRAFT, text);
