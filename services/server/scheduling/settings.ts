import { z } from 'zod';
import { fineMilliseconds, positiveMilliseconds } from '../../settings/milliseconds.js';

const positive = z.int().min(1);

/** How jobs of one version wait and share runs. */
export const schedulingSchema = {
  /** Samples of the largest run that calls share; a call of more samples runs alone. */
  runBatch: positive.default(8),
  /** Runs of these many samples are made as soon as there are so many; the greatest that fits is taken. None: whatever waits. */
  preferredBatches: z.array(positive).default([]),
  /** Milliseconds that a call waits for others to share its run, while a worker is free. */
  queueDelayMs: fineMilliseconds.default(0),
  /** Calls of one version that may wait; those beyond are refused at once. */
  queueLimit: positive.default(128),
  /** Bytes of tensors that may wait for one version. */
  queueBytes: positive.default(256 * 1024 * 1024),
  /** Milliseconds after which a call that names no timeout and has not begun is refused; absent: never. */
  queueTimeoutMs: positiveMilliseconds.optional(),
} as const;

export type SchedulingSettings = z.output<z.ZodObject<typeof schedulingSchema>>;
