import type { Context } from './context.js';

/** Runs a service until Ctrl-C or SIGTERM, then stops it. */
export async function untilStopped(
  start: (signal: AbortSignal) => Promise<{ stop(): Promise<void> }>,
  context: Context,
): Promise<void> {
  context.signal.throwIfAborted();
  const running = await start(context.signal);
  if (!context.signal.aborted) {
    await new Promise<void>((resolve) => context.signal.addEventListener('abort', () => resolve(), { once: true }));
  }
  await running.stop();
}
