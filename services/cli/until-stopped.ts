import type { Context } from './context.js';

/** Runs a service until Ctrl-C or SIGTERM, then stops it. */
export async function untilStopped(start: () => Promise<{ stop(): Promise<void> }>, context: Context): Promise<void> {
  context.signal.throwIfAborted();
  const running = await start();
  if (!context.signal.aborted) {
    await new Promise<void>((resolve) => context.signal.addEventListener('abort', () => resolve(), { once: true }));
  }
  await running.stop();
}
