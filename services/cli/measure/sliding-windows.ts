/** A window of a document, and from which token on it is scored. */
export interface ScoredWindow {
  readonly start: number;
  /** After its last token. */
  readonly end: number;
  readonly scored: number;
}

/**
 * Windows over a document of so many tokens that move on by `stride`: each scores the tokens that no window before it had, so that every
 * token but the first is scored once. The last window ends with the document.
 */
export function slidingWindows(length: number, window: number, stride: number): ScoredWindow[] {
  const windows: ScoredWindow[] = [];
  let scored = 1;
  for (let end = Math.min(window, length); scored < length; end = Math.min(end + stride, length)) {
    windows.push({ start: Math.max(0, end - window), end, scored });
    scored = end;
  }
  return windows;
}
