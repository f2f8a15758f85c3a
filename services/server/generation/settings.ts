import { z } from 'zod';
import { millisecondsOrNone } from '../../settings/milliseconds.js';

const positive = z.int().min(1);

/** How the requests of one language model share its runs and its cache. */
export const generationSchema = {
  /** Requests that are generated for at a time: rows of the cache. */
  generationRows: positive.default(16),
  /** Tokens of a row, prompt and text together; absent: the model's context. Never more than that. */
  generationContext: positive.optional(),
  /** Bytes that the caches of one version may take; there are fewer rows where it would be more. Memory is taken as it is touched. */
  generationCacheBytes: positive.default(4 * 1024 ** 3),
  /**
   * Prompt tokens of one run: running streams wait for no more than this between two tokens. A version with token stages keeps to what
   * they were calibrated with.
   */
  prefillChunk: positive.default(128),
  /** Requests of one version that may wait for a row; those beyond are refused at once. */
  generationQueueLimit: positive.default(128),
  /** Milliseconds between two pieces of a text that comes quicker, but for its end; 0: every token at once. */
  streamIntervalMs: millisecondsOrNone.default(30),
} as const;

export type GenerationSettings = z.output<z.ZodObject<typeof generationSchema>>;
