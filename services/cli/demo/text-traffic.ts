import { internal } from '../../../libs/errors/error.js';
import type { TextSource } from '../../server/inference/text-source.js';
import type { ProgressEvent } from '../progress.js';

/** Tokens of a text to be continued, or of a window to be judged. */
export interface Excerpt {
  readonly ids: readonly number[];
  /** For people: where it is from. */
  readonly name: string;
}

/** One continuation, as its reader saw it. */
export interface Continuation {
  readonly text: string;
  readonly tokens: number;
  /** From the request's sending to the first piece of text, through gRPC. */
  readonly firstTokenMs: number;
  /** Of the tokens after the first. */
  readonly tokensPerSecond: number;
  /** As the server says it; undefined without a meter. */
  readonly joulesPerToken: number | undefined;
}

export interface TextTraffic {
  readonly model: string;
  readonly versions: readonly number[];
  readonly signal: AbortSignal;
  readonly progress: (event: ProgressEvent) => void;
}

/**
 * Has every version continue every prompt by `maxTokens` tokens, one stream at a time so that a pace is a pace; which version goes first
 * changes from prompt to prompt. The first prompt is streamed beforehand and not counted.
 * @returns [version][prompt]
 */
export async function continuePrompts(
  source: TextSource,
  prompts: readonly Excerpt[],
  { maxTokens, seed, temperature }: { maxTokens: number; seed: number; temperature: number },
  { model, versions, signal, progress }: TextTraffic,
): Promise<Continuation[][]> {
  const ask = async (version: number, prompt: Excerpt): Promise<Continuation> => {
    const sent = performance.now();
    const asked = {
      ...{ model, version, prompt: prompt.ids, maxTokens, ignoreEos: true, energy: true },
      sampling: { temperature, seed, topK: 0, topP: 1, repetitionPenalty: 1 },
    };
    let text = '';
    let [first, last, joules, tokens]: [number?, number?, number?, number?] = [];
    let early = 0;
    for await (const event of source.generate(asked, signal)) {
      if (event.kind === 'end') {
        ({ joules } = event);
        tokens = event.usage.completionTokens;
        continue;
      }
      last = performance.now();
      // The first piece may be of several tokens, where a character has as many.
      if (first === undefined) [first, early] = [last, event.tokens.length];
      text += event.text;
    }
    if (first === undefined || last === undefined || tokens === undefined)
      throw internal(`version ${version} of ${model} ended ${prompt.name} without a word`);
    return {
      text,
      tokens,
      firstTokenMs: first - sent,
      tokensPerSecond: ((tokens - early) * 1000) / (last - first),
      joulesPerToken: joules === undefined ? undefined : joules / tokens,
    };
  };
  for (const version of versions) await ask(version, prompts[0]!);
  const table = versions.map((): Continuation[] => []);
  for (const [index, prompt] of prompts.entries()) {
    for (let i = 0; i < versions.length; i++) {
      const at = (i + index) % versions.length;
      table[at]!.push(await ask(versions[at]!, prompt));
    }
    progress({ stage: 'stream', done: index + 1, total: prompts.length, unit: 'prompts' });
  }
  return table;
}

/**
 * What every version thinks of texts: −log p of each token but the first, as the server tells it of a prompt that is echoed.
 * @returns [version][window]: the losses of its tokens, nats
 */
export async function judgeTexts(
  source: TextSource,
  windows: readonly Excerpt[],
  { model, versions, signal, progress }: TextTraffic,
): Promise<number[][][]> {
  const judge = async (version: number, { ids, name }: Excerpt): Promise<number[]> => {
    const asked = { model, version, prompt: ids, maxTokens: 1, echo: true, logprobs: 0, sampling: { temperature: 0 } };
    const losses: number[] = [];
    let seen = 0;
    for await (const event of source.generate(asked, signal)) {
      if (event.kind === 'end') continue;
      for (const { id, logprob } of event.tokens) {
        const at = seen++;
        if (at === 0 || at >= ids.length) continue;
        if (id !== ids[at] || logprob === undefined)
          throw internal(`version ${version} of ${model} did not echo token ${at} of ${name} with its probability`);
        losses.push(-logprob);
      }
    }
    if (losses.length !== ids.length - 1) throw internal(`version ${version} of ${model} did not echo ${name} whole`);
    return losses;
  };
  const table = versions.map((): number[][] => []);
  for (const [index, window] of windows.entries()) {
    for (const [lane, version] of versions.entries()) table[lane]!.push(await judge(version, window));
    progress({ stage: 'perplexity', done: index + 1, total: windows.length, unit: 'windows' });
  }
  return table;
}
