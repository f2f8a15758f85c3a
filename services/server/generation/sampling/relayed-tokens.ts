import type { GeneratedToken } from '../event.js';
import type { Sampling } from '../request.js';

/** What the token relay is told of a run, and what it tells: all that crosses between the engine and the worker beside positions. */

/** Whoever draws for a request. */
export interface SamplerTerms {
  readonly sampling: Sampling;
  readonly seed: number;
  /** How many of the likeliest tokens are told with each; undefined: no log-probabilities. */
  readonly top: number | undefined;
  /** Tokens that a repetition penalty is for from the start. */
  readonly seen: readonly number[];
}

/** Some of a request's prompt goes through the model. */
export interface PromptMessage {
  readonly kind: 'prompt';
  readonly request: number;
  readonly ids: readonly number[];
  /** By wanted token the one that stands behind it, whose log-probability is asked for, and how many of the likeliest with it. */
  readonly scored?: { readonly ids: readonly number[]; readonly top: number } | undefined;
  /** With the last of it: the first token is drawn. */
  readonly sampler?: SamplerTerms | undefined;
  /** The requests that decode: whoever else a token was drawn for has ended. */
  readonly decoding: readonly number[];
}

/** The token that was drawn last for each of these requests goes through the model, and the next is drawn. */
export interface DrawMessage {
  readonly kind: 'draw';
  readonly requests: readonly number[];
}

export type TokenMessage = PromptMessage | DrawMessage;

/** A token, or why none could be drawn. */
export type DrawnToken = GeneratedToken | { readonly error: string };

export interface RelayedTokens {
  /** Tokens that each cache group holds after the run: [request][group]. */
  readonly lengths: readonly (readonly number[])[];
  /** By request; of a prompt that is not at its end none. */
  readonly drawn: readonly DrawnToken[];
  /** The prompt's tokens with their log-probabilities, where they were asked for. */
  readonly scored: readonly GeneratedToken[];
}
