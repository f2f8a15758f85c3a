import type { HeartwoodError } from '../../../libs/errors/error.js';
import { defaultPriority } from '../scheduling/scheduler.js';
import type { RowHolder } from './cache/cache-rows.js';
import type { CheckedRequest } from './checked-request.js';
import type { EndEvent, FinishReason, GeneratedToken, GenerationUsage } from './event.js';
import type { GenerationRecord } from './observer.js';
import type { GenerationTerms } from './request.js';
import type { PromptMessage, SamplerTerms } from './sampling/relayed-tokens.js';
import type { EventStream } from './text/event-stream.js';
import { TextAssembly } from './text/text-assembly.js';
import type { Vocabulary } from './vocabulary.js';

/** Prompt tokens of a run whose every token's log-probability is asked for: as many rows of logits come back. */
const scoredChunk = 32;

interface Finish {
  readonly reason: FinishReason;
  readonly stop?: string | undefined;
}

/** A request on its way: what has gone through the model, what has been drawn, and what is still to be told. */
export class GenerationTask implements RowHolder {
  readonly priority: number;
  readonly deadline: number | undefined;
  /** Told of every step that it had a row in. */
  readonly stepped: NonNullable<GenerationTerms['stepped']>;
  /** Tokens of each cache group, once the runs that were asked for are done. */
  lengths: readonly number[] = [];
  /** Tokens that have gone through the model by then: the position of the next. */
  position = 0;
  /** Workers that died while the prompt was prefilled. */
  losses = 0;
  cachedTokens = 0;
  readonly #arrived = performance.now();
  #begun: number | undefined;
  #firstToken: number | undefined;
  #lastDrawn = 0;
  #drawn = 0;
  #kept: readonly number[] = [];
  #ended: number | undefined;
  #finish: Finish | undefined;
  #text = '';
  #tokens: GeneratedToken[] = [];
  /** Drawn, and not yet text: that waits until it is handed on, unless the text could end in it. */
  #unread: number[] = [];
  readonly #scored: GeneratedToken[] = [];
  readonly #assembly: TextAssembly;

  /** @param id what the worker knows it by */
  constructor(
    readonly id: number,
    readonly request: CheckedRequest,
    private readonly vocabulary: Vocabulary,
    { priority, deadline, stepped }: GenerationTerms,
    readonly stream: EventStream,
  ) {
    this.priority = priority ?? defaultPriority;
    this.deadline = deadline;
    this.stepped = stepped ?? (() => undefined);
    this.#assembly = new TextAssembly(request.stop);
  }

  /** Whether nothing more is to be done for it. */
  get over(): boolean {
    return this.#ended !== undefined;
  }

  /** Whether a token of its text has come. */
  get hasText(): boolean {
    return this.#drawn > 0;
  }

  /** Whether nothing is to be drawn behind the runs that were asked for, whatever those come to. */
  get full(): boolean {
    return this.position - this.request.prompt.length + 1 >= this.request.maxTokens;
  }

  /** Whether the logits of the prompt's tokens are asked for. */
  get scoresPrompt(): boolean {
    return this.request.echo && this.request.logprobs !== undefined;
  }

  /** What prompts share a prefix under; undefined where this one shares none, since its runs are others. */
  get prefixKey(): string | undefined {
    return this.scoresPrompt ? undefined : `budget ${this.request.budget}`;
  }

  /** The prompt's tokens that go through the model next: borders depend on the request alone, so that its bits do too. */
  nextChunk(size: number): readonly number[] {
    const { prompt } = this.request;
    return prompt.slice(this.position, this.position + (this.scoresPrompt ? Math.min(size, scoredChunk) : size));
  }

  /** Its prefill begins, with so much of it there already. */
  begin(cachedTokens: number, lengths: readonly number[]): void {
    this.#begun = performance.now();
    this.cachedTokens = cachedTokens;
    this.position = cachedTokens;
    this.lengths = lengths;
    this.#scored.length = 0;
  }

  /** What the worker is told of the prompt's next tokens. @param decoding the requests that decode at the time */
  promptMessage(ids: readonly number[], decoding: readonly number[]): PromptMessage {
    const { prompt, logprobs } = this.request;
    const end = this.position + ids.length;
    // The logits at each token are of the one behind it.
    const scored = this.scoresPrompt ? { ids: prompt.slice(this.position + 1, end + 1), top: logprobs! } : undefined;
    const sampler = end === prompt.length ? this.#sampler() : undefined;
    return { kind: 'prompt', request: this.id, ids, scored, sampler, decoding };
  }

  /** Prompt tokens have gone through the model. @param scored those whose log-probabilities were asked for */
  prefilled(count: number, lengths: readonly number[], scored: readonly GeneratedToken[]): void {
    this.#scored.push(...scored);
    this.position += count;
    this.lengths = lengths;
    this.#kept = lengths.slice(1);
  }

  /** The next token has been drawn. @returns milliseconds since the last, and whether it was the first */
  drew(token: GeneratedToken): { ms: number; first: boolean } {
    const first = this.#firstToken === undefined;
    if (first && this.request.echo) this.#echo();
    const now = performance.now();
    this.#firstToken ??= now;
    const ms = now - (first ? this.#arrived : this.#lastDrawn);
    this.#lastDrawn = now;
    this.#drawn++;
    this.#tokens.push(token);
    this.#finish = this.#take(token.id);
    return { ms, first };
  }

  /** Its last token is to go through the model: no cache group drops it. */
  decodes(): void {
    this.position++;
    this.lengths = this.lengths.map((length) => length + 1);
  }

  /** The run that it was to go through was not run. */
  undecodes(): void {
    this.position--;
    this.lengths = this.lengths.map((length) => length - 1);
  }

  /** Whether the text has come to its end. */
  get finished(): boolean {
    return this.#finish !== undefined;
  }

  /** Hands on what has been drawn since the last time, and the end where it has come. */
  deliver(): void {
    const finish = this.#finish;
    this.#read();
    if (finish !== undefined && finish.reason !== 'stop') this.#text += this.#assembly.end();
    if (this.#text !== '' || (finish !== undefined && this.#tokens.length > 0)) {
      this.stream.push({ kind: 'text', text: this.#text, tokens: this.#tokens });
      this.#text = '';
      this.#tokens = [];
    }
    if (finish !== undefined) this.stream.end(this.#endEvent(finish));
  }

  /** The text so far is to be read, then the error. */
  fail(error: HeartwoodError): void {
    this.deliver();
    this.stream.fail(error);
  }

  /** Stops its clock. */
  end(): void {
    this.#ended ??= performance.now();
  }

  record(outcome: GenerationRecord['outcome']): GenerationRecord {
    const firstTokenMs = this.#firstToken === undefined ? undefined : this.#firstToken - this.#arrived;
    const finishReason = outcome === 'OK' ? this.#finish?.reason : undefined;
    return { outcome, finishReason, usage: this.#usage(), timing: { ...this.#timing(), firstTokenMs } };
  }

  #take(id: number): Finish | undefined {
    const { eosIds, maxTokens, stop } = this.request;
    if (eosIds.has(id)) return { reason: 'eos' };
    this.#unread.push(id);
    const found = stop.length > 0 ? this.#read() : undefined;
    if (found !== undefined) return { reason: 'stop', stop: found };
    return this.#drawn < maxTokens ? undefined : { reason: 'length' };
  }

  /** @returns the stop string that it came to */
  #read(): string | undefined {
    const ids = this.#unread;
    this.#unread = [];
    for (const id of ids) {
      const { text, stop } = this.#assembly.push(this.vocabulary.bytes(id));
      this.#text += text;
      if (stop !== undefined) return stop;
    }
    return undefined;
  }

  #echo(): void {
    for (const id of this.request.prompt) this.#text += this.#assembly.echo(this.vocabulary.bytes(id));
    if (!this.scoresPrompt) return;
    const [first] = this.request.prompt;
    this.#tokens = [{ id: first! }, ...this.#scored];
  }

  #sampler(): SamplerTerms {
    const { sampling, seed, prompt, logprobs: top } = this.request;
    return { sampling, seed, top, seen: sampling.repetitionPenalty === 1 ? [] : prompt };
  }

  #usage(): GenerationUsage {
    const { cachedTokens } = this;
    const promptTokens = this.request.prompt.length;
    return { promptTokens, cachedTokens, completionTokens: this.#drawn, tokensKept: this.#kept };
  }

  #timing(): { queueMs: number; totalMs: number } {
    const now = this.#ended ?? performance.now();
    return { queueMs: (this.#begun ?? now) - this.#arrived, totalMs: now - this.#arrived };
  }

  #endEvent({ reason, stop }: Finish): EndEvent {
    const timing = { ...this.#timing(), firstTokenMs: this.#firstToken! - this.#arrived };
    return {
      kind: 'end',
      finishReason: reason,
      ...(stop === undefined ? {} : { stopString: stop }),
      seed: this.request.seed,
      usage: this.#usage(),
      timing,
    };
  }
}
