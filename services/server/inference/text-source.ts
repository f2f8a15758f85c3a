import type { EndEvent, TextEvent } from '../generation/event.js';
import type { GenerationContents } from './generation.js';

/** A text that is asked of a server, or of a version in this process. */
export interface AskedText extends GenerationContents {
  readonly model: string;
  /** Undefined: the default. */
  readonly version?: number | undefined;
  /** Whether the end is to say what the text cost. */
  readonly energy?: boolean;
}

/** The end of a text, and which version it is of. */
export interface TextEnd extends EndEvent {
  readonly model: string;
  readonly version: number;
  /** Undefined without a meter. */
  readonly joules?: number | undefined;
  /** Nats; undefined where the version has no budget. */
  readonly budget?: number | undefined;
}

/** What generates text, wherever it is. Throws HeartwoodErrors. */
export interface TextSource {
  /** Pieces of text, then the end. Leaving the iteration, or the signal, cancels it. */
  generate(asked: AskedText, signal: AbortSignal): AsyncIterable<TextEvent | TextEnd>;
}
