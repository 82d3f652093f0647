/** The same call from a terminal. */

/** A word that a POSIX shell takes as it is. */
export function quoted(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}

export function curl(origin: string, path: string, body: unknown): string {
  return `curl -sS ${quoted(origin + path)} -H 'content-type: application/json' -d ${quoted(JSON.stringify(body))}`;
}
