import { setTimeout as pause } from 'node:timers/promises';
import { isUnavailable } from './database.js';

/** Milliseconds between two tries. */
const REST = 250;

/**
 * Does something with the database, again and again while it is out of reach, for as long as `patient` says; `action` must do no harm when it is
 * done twice, since what was never answered may have been done all the same.
 * @throws the last error, UNAVAILABLE or another
 */
export async function persist<T>(action: () => Promise<T>, patient: () => boolean): Promise<T> {
  for (;;) {
    try {
      return await action();
    } catch (error) {
      if (!isUnavailable(error) || !patient()) throw error;
    }
    await pause(REST);
  }
}
