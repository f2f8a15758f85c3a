import { setMaxListeners } from 'node:events';
import { HeartwoodError } from '../../../libs/errors/error.js';
import { timerUntil } from '../scheduling/job-queue.js';

/** Tells when nobody waits for a request any more, and why. @returns what ends the watch */
export function watchCaller(
  signal: AbortSignal,
  deadline: number | undefined,
  over: (error: HeartwoodError) => void,
): () => void {
  const abort = (): void => over(cancelled());
  // The requests of one connection may share its signal, each with a listener; they are no leak.
  setMaxListeners(0, signal);
  signal.addEventListener('abort', abort, { once: true });
  const late = (): void => over(tooLate());
  const timer = deadline === undefined ? undefined : timerUntil(deadline, late);
  return () => {
    signal.removeEventListener('abort', abort);
    clearTimeout(timer);
  };
}

export function tooLate(): HeartwoodError {
  return new HeartwoodError('DEADLINE_EXCEEDED', 'the request timed out before its text ended');
}

export function cancelled(): HeartwoodError {
  return new HeartwoodError('CANCELLED', 'the request was cancelled');
}
