import { randomInt } from 'node:crypto';
import { z } from 'zod';
import { invalid } from '../../../libs/errors/error.js';
import type { GenerationModel } from './served-graph.js';
import type { GenerationRequest, Sampling } from './request.js';
import type { Vocabulary } from './vocabulary.js';

/** Characters that a token stands for at most, with room: a text of more than so many for each token cannot fit. */
const longestToken = 512;

const schema = z.object({
  sampling: z.object({
    temperature: z.number().min(0).max(100),
    topK: z.int().min(0),
    topP: z.number().gt(0).max(1),
    // A logit over less than that may be beyond float32.
    repetitionPenalty: z.number().min(0.001).max(100),
    seed: z.int().min(0).optional(),
  }),
  maxTokens: z.int().min(1).optional(),
  stop: z
    .array(
      z
        .string()
        .min(1)
        .max(1024)
        .refine((text) => !/\p{Surrogate}/u.test(text), 'expected whole characters'),
    )
    .max(16)
    .default([]),
  logprobs: z.int().min(0).max(20).optional(),
  echo: z.boolean().default(false),
  truncate: z.boolean().default(false),
  budget: z.number().min(0).optional(),
  ignoreEos: z.boolean().default(false),
});

/** A request with everything filled in, whose prompt and text fit the context together. */
export interface CheckedRequest {
  readonly prompt: readonly number[];
  readonly sampling: Sampling;
  readonly seed: number;
  readonly maxTokens: number;
  readonly stop: readonly string[];
  readonly logprobs: number | undefined;
  readonly echo: boolean;
  /** Nats; 0 where the model has no stages. */
  readonly budget: number;
  readonly eosIds: ReadonlySet<number>;
}

/** Throws INVALID_ARGUMENT naming the field; of a prompt that does not fit with its tokens and the context's. */
export function checkRequest(
  request: GenerationRequest,
  model: GenerationModel,
  context: number,
  vocabulary: Vocabulary,
): CheckedRequest {
  const parsed = schema.safeParse(request);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    throw invalid(`${issue.path.join('.')}: ${issue.message}`);
  }
  const { sampling, stop, logprobs, echo, truncate, budget, ignoreEos } = parsed.data;
  if (budget !== undefined && model.budget === undefined)
    throw invalid(`budget: ${budget}, expected none: the version drops no prompt tokens`);
  const whole = promptOf(request.prompt, model, context, truncate, vocabulary);
  const prompt = fitted(whole, parsed.data.maxTokens, context, truncate);
  return {
    prompt,
    sampling,
    seed: sampling.seed ?? randomInt(2 ** 48 - 1),
    maxTokens: parsed.data.maxTokens ?? context - prompt.length,
    stop,
    logprobs,
    echo,
    budget: budget ?? model.budget ?? 0,
    eosIds: new Set(ignoreEos ? [] : model.eosIds),
  };
}

function promptOf(
  prompt: GenerationRequest['prompt'],
  model: GenerationModel,
  context: number,
  truncate: boolean,
  vocabulary: Vocabulary,
): readonly number[] {
  if (typeof prompt !== 'string') {
    const bad = prompt.find((id) => !Number.isInteger(id) || id < 0 || id >= model.vocabulary);
    if (bad !== undefined)
      throw invalid(`prompt: token ${bad}, expected whole numbers from 0 to ${model.vocabulary - 1}`);
    return prompt;
  }
  const most = context * longestToken;
  if (prompt.length > most && !truncate)
    throw invalid(`prompt: ${prompt.length} characters, expected as many as ${context} tokens can hold`);
  const ids = vocabulary.encode(prompt.slice(-most));
  const bad = ids.find((id) => id >= model.vocabulary);
  if (bad !== undefined) throw invalid(`prompt: its token ${bad} is none of the model’s ${model.vocabulary}`);
  return ids;
}

function fitted(
  prompt: readonly number[],
  maxTokens: number | undefined,
  context: number,
  truncate: boolean,
): readonly number[] {
  if (prompt.length === 0) throw invalid('prompt: it has no tokens, expected at least 1');
  const wanted = maxTokens ?? 1;
  if (wanted >= context) throw invalid(`max tokens: ${wanted}, expected fewer than the context of ${context} tokens`);
  if (prompt.length + wanted <= context) return prompt;
  // The end of a prompt is what is to be gone on from.
  if (truncate) return prompt.slice(prompt.length + wanted - context);
  const text = maxTokens === undefined ? '1 token of text' : `${wanted} tokens of text`;
  throw invalid(
    `prompt: ${prompt.length} tokens and ${text} are ${prompt.length + wanted}, expected at most the context of ${context} tokens`,
  );
}
