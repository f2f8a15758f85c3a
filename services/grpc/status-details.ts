/** Characters of a status' details that a client is told; in a header each may take nine bytes, of 64 KiB that there are. */
const longest = 1024;

/**
 * A message as gRPC's details can carry it: one line of bounded length, with U+FFFD for halves of a surrogate pair. A text that is none
 * of that may quote what a client sent, and would end the connection (a header too large) or the whole process (encodeURI throws).
 */
export function detailsOf(text: string): string {
  const line = text.slice(0, 4 * longest).replace(/\s*[\r\n]+\s*/g, ' ');
  const cut = line.length > longest || text.length > 4 * longest ? `${line.slice(0, longest)}…` : line;
  return cut.replace(loneSurrogate, '\ufffd');
}

const loneSurrogate = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;
