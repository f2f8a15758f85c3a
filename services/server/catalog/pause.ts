/** Waits, and resolves to true; to false at once when the signal aborts. */
export function pause(milliseconds: number, signal: AbortSignal): Promise<boolean> {
  if (signal.aborted) return Promise.resolve(false);
  return new Promise((resolve) => {
    const wake = (): void => {
      clearTimeout(timer);
      resolve(false);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', wake);
      resolve(true);
    }, milliseconds);
    signal.addEventListener('abort', wake, { once: true });
  });
}
