import { z } from 'zod';

/** Milliseconds of the longest timer there is, 24.8 days: Node fires one that is set for longer at once. */
export const longestTimer = 2 ** 31 - 1;

const bound = [longestTimer, `expected ${longestTimer} milliseconds at most, the longest timer there is`] as const;

/** Whole milliseconds, 1 or more, of a setting that a timer is set by. */
export const milliseconds = z
  .int()
  .min(1)
  .max(...bound);

/** The same, or none. */
export const millisecondsOrNone = z
  .int()
  .min(0)
  .max(...bound);

/** Between two looks at something: fewer than ten would be all that the process does. */
export const pollMilliseconds = z
  .int()
  .min(10)
  .max(...bound);

/** Milliseconds with fractions, 0 or more. */
export const fineMilliseconds = z
  .number()
  .min(0)
  .max(...bound);

/** Milliseconds with fractions, more than 0. */
export const positiveMilliseconds = z
  .number()
  .positive()
  .max(...bound);
