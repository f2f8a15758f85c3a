import type { GenerationEvent } from './event.js';
import type { GenerationRequest, GenerationTerms, TokenRequest } from './request.js';

/** What an engine holds at this moment. */
export interface EngineLoad {
  /** Requests that have a row of the cache: prefilling or decoding. */
  readonly running: number;
  /** Requests that wait for a row, those whose prompt is being encoded among them. */
  readonly waiting: number;
  readonly rows: number;
  /** Tokens that running requests hold in the cache, and the most that all rows could. */
  readonly cachedTokens: number;
  readonly cacheTokens: number;
  /** Bytes of the caches, all rows, whole context; memory is taken as it is touched. */
  readonly cacheBytes: number;
}

/**
 * Generates text for many requests at a time with one version of a language model: requests join and leave the running batch at any
 * token. A request's text does not depend on what else is in the batch.
 */
export interface GenerationEngine {
  /** Tokens of a prompt and its text together. */
  readonly context: number;
  readonly load: EngineLoad;
  /**
   * A request with its prompt as tokens, for `generate`: a long text is encoded beside the event loop, and counts as waiting meanwhile.
   * Rejects with what `generate` throws at once, in the same order, before anything is encoded where that can be; and with CANCELLED,
   * DEADLINE_EXCEEDED, UNAVAILABLE when the encoding comes to be for nobody.
   */
  prepare(request: GenerationRequest, signal: AbortSignal, terms?: GenerationTerms): Promise<TokenRequest>;
  /**
   * Takes up a request; its events follow as they come. A prompt that is text is encoded in place. Leaving the
   * iteration, or the signal, cancels it, and its row is free within one token, or two where a run was asked for ahead. Throws at once INVALID_ARGUMENT (naming the field; a prompt that does not fit the context, with both numbers),
   * RESOURCE_EXHAUSTED (too many wait), UNAVAILABLE (closed). The iteration throws CANCELLED, DEADLINE_EXCEEDED, UNAVAILABLE (the worker
   * died with the request's cache; it may be tried again), INTERNAL.
   */
  generate(request: GenerationRequest, signal: AbortSignal, terms?: GenerationTerms): AsyncIterable<GenerationEvent>;
  /** Ends what is under way with UNAVAILABLE and frees the cache. The session stays its owner's. */
  close(): Promise<void>;
}
