import type { ErrorCode } from '../../../libs/errors/error.js';
import type { Execution } from '../scheduling/scheduler.js';
import type { FinishReason, GenerationTiming, GenerationUsage } from './event.js';

/** One run of the model for generation. */
export interface GenerationStep {
  /** prefill: a chunk of one request's prompt; decode: a token of every running request. */
  readonly kind: 'prefill' | 'decode';
  /** Requests that it was for. */
  readonly rows: number;
  /** Tokens that went in. */
  readonly tokens: number;
  /** Of those, how many were of requests that had ended when it began: it was asked for before that was known. */
  readonly wasted: number;
  /** Of those, how many each token stage let on; of a decode run all of them. */
  readonly kept: readonly number[];
  /** Tokens whose caches were read, over all rows; what a decode step reads grows with it. */
  readonly cachedTokens: number;
  /** Its time on the worker; `samples` are its rows, those of nobody among them. */
  readonly execution: Execution;
}

/** A request that has ended, however it did. */
export interface GenerationRecord {
  /** OK, or the error that its stream ended with. */
  readonly outcome: 'OK' | ErrorCode;
  /** Undefined unless the outcome is OK. */
  readonly finishReason: FinishReason | undefined;
  readonly usage: GenerationUsage;
  /** `firstTokenMs` is undefined where it came to none. */
  readonly timing: Omit<GenerationTiming, 'firstTokenMs'> & { readonly firstTokenMs: number | undefined };
}

/** Told of what an engine does, as it happens: metrics and meters hang on it. What it throws is reported, and costs its count alone. */
export interface GenerationObserver {
  /** A step's run has begun on the worker, at a time of performance.now(); one `stepped` or `stepFailed` follows before the next step. */
  stepBegins?(at: number): void;
  stepped?(step: GenerationStep): void;
  stepFailed?(): void;
  /** Milliseconds from a request to its first token. */
  firstToken?(ms: number): void;
  /** Milliseconds between two tokens of one request. */
  nextToken?(ms: number): void;
  ended?(record: GenerationRecord): void;
}
