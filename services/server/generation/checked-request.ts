import { randomInt } from 'node:crypto';
import { z } from 'zod';
import { invalid } from '../../../libs/errors/error.js';
import type { GenerationModel } from './served-graph.js';
import type { GenerationRequest, Sampling } from './request.js';
import type { Vocabulary } from './vocabulary.js';

function value(expected: string, holds: (given: number) => boolean) {
  const error = ({ input }: { input?: unknown }) => `${String(input)}, expected ${expected}`;
  return z.number({ error }).refine(holds, { error });
}

const whole = (expected: string, least: number, most = Number.MAX_SAFE_INTEGER) =>
  value(expected, (given) => Number.isSafeInteger(given) && given >= least && given <= most);

const between = (least: number, most: number) =>
  value(`a number from ${least} to ${most}`, (given) => given >= least && given <= most);

const stopString = z
  .string()
  .refine(({ length }) => length >= 1 && length <= 1024, 'expected a text of 1 to 1024 characters')
  .refine((text) => !/\p{Surrogate}/u.test(text), 'expected whole characters');

const schema = z.object({
  sampling: z.object({
    temperature: between(0, 100),
    topK: whole('a whole number, 0 or more', 0),
    topP: value('a number above 0 and at most 1', (given) => given > 0 && given <= 1),
    // A logit over less than that may be beyond float32.
    repetitionPenalty: between(0.001, 100),
    seed: whole('a whole number, 0 or more', 0).optional(),
  }),
  maxTokens: whole('a whole number, 1 or more', 1).optional(),
  stop: z.array(stopString).max(16, 'expected at most 16 texts').default([]),
  logprobs: whole('a whole number from 0 to 20', 0, 20).optional(),
  echo: z.boolean().default(false),
  truncate: z.boolean().default(false),
  budget: value('a number of nats, 0 or more', (given) => given >= 0).optional(),
  ignoreEos: z.boolean().default(false),
});

/** What a field is called by who asks, in both protocols: `sampling.topP` is top_p, and a text of a list has its place. */
function wireName(path: readonly PropertyKey[]): string {
  const [field, place] = path.filter((part) => part !== 'sampling').map(String);
  const name = (field ?? 'request').replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  return place === undefined ? name : `${name}[${place}]`;
}

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

/**
 * What of a request's prompt is to be encoded: undefined where it is tokens already. Throws INVALID_ARGUMENT naming the field, and with
 * both numbers for a text that is too long whatever its tokens are, so that neither is found out by encoding.
 */
export function textToEncode(
  request: GenerationRequest,
  model: GenerationModel,
  context: number,
  vocabulary: Vocabulary,
): string | undefined {
  const { truncate } = checkFields(request, model);
  return typeof request.prompt === 'string' ? boundedText(request.prompt, context, truncate, vocabulary) : undefined;
}

/** Tokens that a text came to. Throws INVALID_ARGUMENT where the model has fewer than the tokenizer. */
export function checkTokens(ids: readonly number[], model: GenerationModel): readonly number[] {
  const bad = ids.find((id) => id >= model.vocabulary);
  if (bad !== undefined) throw invalid(`prompt: its token ${bad} is none of the model’s ${model.vocabulary}`);
  return ids;
}

/** Throws INVALID_ARGUMENT naming the field; of a prompt that does not fit with its tokens and the context's. */
export function checkRequest(
  request: GenerationRequest,
  model: GenerationModel,
  context: number,
  vocabulary: Vocabulary,
): CheckedRequest {
  const fields = checkFields(request, model);
  const { sampling, stop, logprobs, echo, truncate, budget, ignoreEos } = fields;
  const whole = promptOf(request.prompt, model, context, truncate, vocabulary);
  const prompt = fitted(whole, fields.maxTokens, context, truncate);
  return {
    prompt,
    sampling,
    seed: sampling.seed ?? randomInt(2 ** 48 - 1),
    maxTokens: fields.maxTokens ?? context - prompt.length,
    stop,
    logprobs,
    echo,
    budget: budget ?? model.budget ?? 0,
    eosIds: new Set(ignoreEos ? [] : model.eosIds),
  };
}

function checkFields(request: GenerationRequest, model: GenerationModel): z.output<typeof schema> {
  const parsed = schema.safeParse(request);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    throw invalid(`${wireName(issue.path)}: ${issue.message}`);
  }
  const { budget } = parsed.data;
  if (budget !== undefined && model.budget === undefined)
    throw invalid(`budget: ${budget}, expected none: the version drops no prompt tokens`);
  return parsed.data;
}

function promptOf(
  prompt: GenerationRequest['prompt'],
  model: GenerationModel,
  context: number,
  truncate: boolean,
  vocabulary: Vocabulary,
): readonly number[] {
  if (typeof prompt === 'string')
    return checkTokens(vocabulary.encode(boundedText(prompt, context, truncate, vocabulary)), model);
  const bad = prompt.find((id) => !Number.isInteger(id) || id < 0 || id >= model.vocabulary);
  if (bad !== undefined)
    throw invalid(`prompt: token ${bad}, expected whole numbers from 0 to ${model.vocabulary - 1}`);
  return prompt;
}

/** A text that as many tokens as the context has may hold: the end of a longer one, where it may lose its beginning. */
function boundedText(text: string, context: number, truncate: boolean, { longestToken }: Vocabulary): string {
  const most = context * longestToken;
  if (text.length <= most) return text;
  if (!truncate)
    throw invalid(
      `prompt: ${text.length} characters, expected at most ${most}: ${context} tokens of ${longestToken} characters, the longest there is`,
    );
  // Not from the middle of a character.
  const from = text.length - most;
  return text.slice(/[\udc00-\udfff]/.test(text[from]!) ? from + 1 : from);
}

function fitted(
  prompt: readonly number[],
  maxTokens: number | undefined,
  context: number,
  truncate: boolean,
): readonly number[] {
  if (prompt.length === 0)
    throw invalid(
      'prompt: it has no tokens, expected at least 1; an empty text stands for the token that texts begin with where the model has one (bos_token_id)',
    );
  const wanted = maxTokens ?? 1;
  if (wanted >= context) throw invalid(`max_tokens: ${wanted}, expected fewer than the context of ${context} tokens`);
  if (prompt.length + wanted <= context) return prompt;
  // The end of a prompt is what is to be gone on from.
  if (truncate) return prompt.slice(prompt.length + wanted - context);
  const text = maxTokens === undefined ? '1 token of text' : `${wanted} tokens of text`;
  throw invalid(
    `prompt: ${prompt.length} tokens and ${text} are ${prompt.length + wanted}, expected at most the context of ${context} tokens`,
  );
}
