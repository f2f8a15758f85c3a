/** The sampling parameters of Triton's LLM backends, by vLLM's names: a JSON object in a tensor, or the request's own parameters. */
import { z } from 'zod';
import { invalid } from '../../../libs/errors/error.js';
import type { GenerationContents } from './generation.js';

/** Clients of these backends write numbers as texts as often as not. */
const number = z.union(
  [
    z.number(),
    z
      .string()
      .regex(/^\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*$/i)
      .transform(Number),
  ],
  { error: 'expected a number' },
);
const whole = number.refine(Number.isSafeInteger, 'expected a whole number');
const flag = z.union(
  [
    z.boolean(),
    z
      .string()
      .toLowerCase()
      .pipe(z.enum(['true', 'false']))
      .transform((text) => text === 'true'),
  ],
  { error: 'expected true or false' },
);

/** A parameter that may be given as long as it asks for nothing: what would be done anyhow. */
const neutral = (...values: readonly (number | boolean | null)[]) =>
  z
    .unknown()
    .refine(
      (given) =>
        values.includes(given as number) || values.some((value) => String(value) === String(given).toLowerCase()),
      `is not supported, expected ${values.map(String).join(' or ')} or none`,
    );

const schema = z.strictObject({
  temperature: number.optional(),
  /** -1 stands for all, as does 0. */
  top_k: whole.transform((k) => (k === -1 ? 0 : k)).optional(),
  top_p: number.optional(),
  repetition_penalty: number.optional(),
  seed: whole.nullable().optional(),
  stop: z
    .union([z.string().transform((stop) => [stop]), z.array(z.string())])
    .nullable()
    .optional(),
  max_tokens: whole.nullable().optional(),
  logprobs: whole.nullable().optional(),
  ignore_eos: flag.optional(),
  n: neutral(1).optional(),
  best_of: neutral(1, null).optional(),
  presence_penalty: neutral(0).optional(),
  frequency_penalty: neutral(0).optional(),
  min_p: neutral(0).optional(),
  min_tokens: neutral(0).optional(),
  use_beam_search: neutral(false).optional(),
  include_stop_str_in_output: neutral(false).optional(),
  skip_special_tokens: neutral(true).optional(),
  spaces_between_special_tokens: neutral(true).optional(),
  detokenize: neutral(true).optional(),
  prompt_logprobs: neutral(null).optional(),
  logits_processors: neutral(null).optional(),
  truncate_prompt_tokens: neutral(null).optional(),
});

/** The names of the parameters that say how text is sampled. */
export const samplingNames: readonly string[] = Object.keys(schema.shape);

/** Of a request that does not say, as for vLLM. */
const defaultMaxTokens = 16;

/** What the parameters say of a text; ranges are checked where the text is taken up. */
export type SampledContents = Pick<GenerationContents, 'sampling' | 'maxTokens' | 'stop' | 'logprobs' | 'ignoreEos'>;

/**
 * Reads sampling parameters. Throws INVALID_ARGUMENT naming the parameter, and of one that is unknown those that are known.
 * @param where what to call them in the message
 */
export function samplingParameters(given: unknown, where: string): SampledContents {
  const parsed = schema.safeParse(given);
  if (!parsed.success) throw invalid(describe(parsed.error.issues[0], where));
  const { temperature, top_k, top_p, repetition_penalty, seed, stop, max_tokens, logprobs, ignore_eos } = parsed.data;
  return {
    sampling: {
      ...(temperature === undefined ? {} : { temperature }),
      ...(top_k === undefined ? {} : { topK: top_k }),
      ...(top_p === undefined ? {} : { topP: top_p }),
      ...(repetition_penalty === undefined ? {} : { repetitionPenalty: repetition_penalty }),
      seed: seed ?? undefined,
    },
    maxTokens: max_tokens === null ? undefined : (max_tokens ?? defaultMaxTokens),
    stop: stop ?? undefined,
    logprobs: logprobs ?? undefined,
    ignoreEos: ignore_eos,
  };
}

/** Reads them from the text of a JSON object. Throws INVALID_ARGUMENT. */
export function samplingJson(text: string, where: string): SampledContents {
  let given: unknown;
  try {
    given = JSON.parse(text);
  } catch (cause) {
    throw invalid(`${where}: expected a JSON object, got ${JSON.stringify(text.slice(0, 60))}`, cause);
  }
  return samplingParameters(given, where);
}

function describe(issue: z.core.$ZodIssue | undefined, where: string): string {
  if (issue?.code === 'unrecognized_keys') {
    const name = JSON.stringify(issue.keys[0]?.slice(0, 60));
    return `${where}: unknown parameter ${name}, expected of ${samplingNames.join(', ')}`;
  }
  const [name] = issue?.path ?? [];
  const what = issue?.message ?? 'is not what it should be';
  return name === undefined ? `${where}: expected a JSON object` : `${where}: ${String(name)}: ${what}`;
}
