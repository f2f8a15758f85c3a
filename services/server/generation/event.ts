/** What a stream of generated text consists of: texts, then one end; or an error that is thrown. */

export interface TokenLogprob {
  readonly id: number;
  readonly logprob: number;
}

export interface GeneratedToken {
  readonly id: number;
  /** Natural logarithm of its probability, where asked for; of the prompt's first token there is none. */
  readonly logprob?: number;
  /** The likeliest tokens in its place, likeliest first; as many as asked for. */
  readonly top?: readonly TokenLogprob[];
}

/**
 * A piece of text and the tokens that were drawn since the last piece. Text is whole characters; what could be the beginning of a stop
 * string, or of a character, waits for the next piece (so do its tokens). A reader that is slow gets fewer, longer pieces.
 */
export interface TextEvent {
  readonly kind: 'text';
  readonly text: string;
  readonly tokens: readonly GeneratedToken[];
}

/** stop: a stop string; eos: the model ended the text; length: `maxTokens`, or the context is full. */
export const finishReasons = ['stop', 'eos', 'length'] as const;
export type FinishReason = (typeof finishReasons)[number];

export interface GenerationUsage {
  readonly promptTokens: number;
  /** Of the prompt's, those that were taken over from an earlier prompt that began alike. */
  readonly cachedTokens: number;
  /** Tokens drawn, those of an end-of-text or a stop string included. */
  readonly completionTokens: number;
  /** Of the prompt's tokens, those that each token stage kept; empty without stages. */
  readonly tokensKept: readonly number[];
}

export interface GenerationTiming {
  /** Milliseconds from the request to the beginning of its prefill. */
  readonly queueMs: number;
  /** Milliseconds from the request to its first token. */
  readonly firstTokenMs: number;
  /** Milliseconds from the request to its end. */
  readonly totalMs: number;
}

export interface EndEvent {
  readonly kind: 'end';
  readonly finishReason: FinishReason;
  /** The stop string that ended the text. */
  readonly stopString?: string;
  /** What the text was drawn with. */
  readonly seed: number;
  readonly usage: GenerationUsage;
  readonly timing: GenerationTiming;
}

export type GenerationEvent = TextEvent | EndEvent;
