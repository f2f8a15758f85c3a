import type { GenerationStep } from './observer.js';

/** What a caller asks of a language model, whichever protocol it came by. */

/** How the next token is drawn. The order is Hugging Face's: penalty, temperature, top-k, top-p. */
export interface Sampling {
  /** Divides the logits; 0 takes the likeliest token always (greedy). */
  readonly temperature: number;
  /** Only so many of the likeliest tokens; 0: all. */
  readonly topK: number;
  /** Only the likeliest tokens whose probabilities sum to this (the nucleus of arXiv 1904.09751), in (0, 1]; 1: all. */
  readonly topP: number;
  /** Logits of tokens in the prompt or the text so far are divided by it where positive, multiplied where negative (arXiv 1909.05858); 1: none. */
  readonly repetitionPenalty: number;
  /** A whole number; the same seed draws the same text. Undefined: one is drawn, and the end says which. */
  readonly seed?: number | undefined;
}

export const greedy: Sampling = { temperature: 0, topK: 0, topP: 1, repetitionPenalty: 1 };

export interface GenerationRequest {
  /** A text, or its tokens. */
  readonly prompt: string | readonly number[];
  readonly sampling: Sampling;
  /** Tokens to generate at most; undefined: until the context is full. */
  readonly maxTokens?: number | undefined;
  /** The text ends before the first of these; at most 16, none empty. */
  readonly stop?: readonly string[] | undefined;
  /** Log-probabilities of each token and of so many of the likeliest, before penalty and temperature; undefined: none. At most 20. */
  readonly logprobs?: number | undefined;
  /** Whether the text begins with the prompt; with `logprobs` the prompt's tokens have theirs. */
  readonly echo?: boolean | undefined;
  /** Whether a prompt that is too long loses its beginning instead of being refused. */
  readonly truncate?: boolean | undefined;
  /** Nats that dropping prompt tokens may cost; undefined: the version's default. For versions with token stages. */
  readonly budget?: number | undefined;
  /** Whether the end-of-text token is a token like any other. */
  readonly ignoreEos?: boolean | undefined;
}

/** A request whose prompt is tokens. */
export interface TokenRequest extends GenerationRequest {
  readonly prompt: readonly number[];
}

/** What a caller says of how its request is to be treated. */
export interface GenerationTerms {
  /** 1 is served first; absent: the scheduler's default. */
  readonly priority?: number | undefined;
  /** On the clock of performance.now(): a request that has not ended by then ends with DEADLINE_EXCEEDED. */
  readonly deadline?: number | undefined;
  /** Told of every step that the request had a row in, once it has run: its share of what the step cost is one of the step's rows. */
  readonly stepped?: ((step: GenerationStep) => void) | undefined;
}
