import { HeartwoodError, invalid } from '../../../libs/errors/error.js';
import type { CompareRequest } from '../../../proto/gen/heartwood/serving/v1/serving.js';
import type { ServedLanguageModel } from '../catalog/served-version.js';
import type { Lane, SampleBatch, SampleSource, TextAnswer } from '../comparison/lane.js';
import type { CompareLimits, Held } from './compare-samples.js';
import { textFlopsOf } from '../inference/text-flops.js';
import type { TextSource } from '../inference/text-source.js';

/** How texts are compared. */
export interface TextWorkload {
  /** Tokens that are generated for each prompt, whether or not the model would end the text: versions have the same to do. */
  readonly maxTokens: number;
  /** Tokens of a sample's text that are the prompt, from its beginning. */
  readonly promptTokens: number;
  /** Nats, for the versions that have a budget. */
  readonly budget?: number | undefined;
}

export const usualWorkload: TextWorkload = { maxTokens: 64, promptTokens: 64 };

/** One prompt, by its tokens, and the tokens that follow it in its text. */
export interface PromptBatch extends SampleBatch {
  readonly prompt: readonly number[];
  readonly following: readonly number[];
}

/** A version as a lane, by the road of every other request. Texts are greedy, so that those of two versions can be compared. */
export function textLaneOf(source: TextSource, served: ServedLanguageModel, workload: TextWorkload): Lane<PromptBatch> {
  const { manifest } = served;
  const { model, version, method } = manifest;
  const flopsOf = textFlopsOf(manifest);
  // A version without a budget has none to be asked with, whatever the others are compared at.
  const budget = manifest.budget === null ? undefined : workload.budget;
  return {
    version,
    policy: method?.policy ?? 'unpruned',
    async answer({ prompt }, signal): Promise<TextAnswer> {
      const { maxTokens } = workload;
      const sampling = { temperature: 0, repetitionPenalty: 1 };
      const asked = { model, version, prompt, sampling, maxTokens, budget, ignoreEos: true };
      const tokens: number[] = [];
      for await (const event of source.generate(asked, signal)) {
        if (event.kind === 'text') {
          for (const { id } of event.tokens) tokens.push(id);
          continue;
        }
        const { firstTokenMs, totalMs } = event.timing;
        const { completionTokens, tokensKept } = event.usage;
        return {
          tokens,
          firstTokenMs,
          nextTokenMs: completionTokens > 1 ? (totalMs - firstTokenMs) / (completionTokens - 1) : undefined,
          tokensKept,
          // Nothing is drawn behind the last token, so it does not run.
          flops: flopsOf(
            prompt.length + completionTokens - 1,
            tokensKept.map((kept) => kept + completionTokens - 1),
          ),
          budget: event.budget,
        };
      }
      throw new HeartwoodError('INTERNAL', `version ${version} of ${model}: its text had no end`);
    },
    async *predictions({ prompt, following: answer }, signal) {
      if (answer.length === 0) return;
      const release = served.acquire();
      try {
        yield* served.forcing.logits({ prompt, answer, budget }, signal);
      } finally {
        release();
      }
    },
  };
}

/**
 * Texts as prompts, and as many tokens that follow them as are generated, so far as the text and the contexts go. Throws INVALID_ARGUMENT naming
 * the one that has no token, CANCELLED.
 */
export async function promptsOf(
  texts: readonly { readonly text: string; readonly name: string }[],
  served: readonly Pick<ServedLanguageModel, 'vocabulary' | 'engine'>[],
  { promptTokens, maxTokens }: TextWorkload,
  signal: AbortSignal,
): Promise<SampleSource<PromptBatch>> {
  const { vocabulary } = served[0]!;
  const context = Math.min(...served.map(({ engine }) => engine.context));
  const prompts: Omit<PromptBatch, 'size'>[] = [];
  for (const { text, name } of texts) {
    const ids = await vocabulary.encodeAside(text, signal);
    const prompt = ids.slice(0, promptTokens);
    if (prompt.length === 0) throw invalid(`${name}: a text without tokens, expected a prompt`);
    const following = ids.slice(prompt.length, Math.min(prompt.length + maxTokens, context));
    prompts.push({ prompt, following });
  }
  return {
    size: prompts.length,
    labelled: false,
    read: async (samples) => {
      const [sample, ...others] = samples;
      if (sample === undefined || others.length > 0)
        throw invalid(`batch: ${samples.length} texts, expected 1 a request`);
      return Promise.resolve({ size: 1, ...prompts[sample]! });
    },
  };
}

/**
 * Takes the texts to the end of the client's side. Throws INVALID_ARGUMENT naming the sample, RESOURCE_EXHAUSTED beyond the limits.
 */
export async function receiveTexts(
  { allowance, maxSamples }: CompareLimits,
  served: readonly ServedLanguageModel[],
  workload: TextWorkload,
  incoming: AsyncIterable<CompareRequest>,
  signal: AbortSignal,
): Promise<Held<PromptBatch>> {
  const texts: { text: string; name: string }[] = [];
  const held = allowance.open();
  try {
    for await (const { sample } of incoming) {
      const name = `sample ${texts.length}${sample?.name ? ` (${sample.name.slice(0, 120)})` : ''}`;
      if (sample?.text === undefined) throw invalid(`${name}: expected a text`);
      if (texts.length >= maxSamples)
        throw new HeartwoodError(
          'RESOURCE_EXHAUSTED',
          `more than the ${maxSamples} samples that a comparison may have`,
        );
      held.take(2 * sample.text.length + 256);
      texts.push({ text: sample.text, name });
    }
    if (texts.length === 0) throw invalid('no samples, expected at least one');
    return { ...(await promptsOf(texts, served, workload, signal)), release: held.release };
  } catch (thrown) {
    held.release();
    throw thrown;
  }
}
