import { copyFile, mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { HeartwoodError, invalid, messageOf } from '../../errors/error.js';
import { causalSpecOf } from '../../models/causal-lm.js';
import type { Checkpoint } from '../../models/checkpoint.js';
import { generationGraph } from '../../models/generation-graph.js';
import { packAttention } from '../../models/packed-attention.js';
import { checkpointWeights } from '../../models/weights.js';
import type { Tensor } from '../../onnx/ir.js';
import { writeModel } from '../../onnx/write.js';
import type { TextPart } from '../../store/text-part.js';
import { TOKENIZER_FILE } from './data.js';

/** The file of a checkpoint that says what a request which does not say gets. */
const GENERATION_FILE = 'generation_config.json';

/**
 * Writes a language model as it is served into the folder of a version: the generation graph with the tensors that pruning made smaller,
 * the tokenizer and, where there is one, generation_config.json. Gives what the manifest says of it. Throws NOT_FOUND without a tokenizer.
 */
export async function writeServedText(
  directory: string,
  checkpoint: Checkpoint,
  replaced: ReadonlyMap<string, Tensor>,
  workDirectory: string,
): Promise<TextPart> {
  await checkTokenizer(checkpoint);
  await mkdir(workDirectory, { recursive: true });
  const packed = await packAttention(checkpoint, workDirectory, replaced);
  const weights = checkpointWeights(checkpoint, packed);
  const graph = generationGraph(checkpoint, { weights: () => weights });
  await writeModel(graph, join(directory, 'model.onnx'));
  await copyFile(join(checkpoint.directory, TOKENIZER_FILE), join(directory, TOKENIZER_FILE));
  const generation = await readGeneration(checkpoint);
  if (generation) await copyFile(join(checkpoint.directory, GENERATION_FILE), join(directory, GENERATION_FILE));
  const { vocabulary, context } = causalSpecOf(checkpoint, weights);
  return {
    tokenizer: TOKENIZER_FILE,
    context,
    vocabulary,
    ...specialTokens(checkpoint, generation, vocabulary),
    caches: graph.caches.map(({ heads, width }) => ({ heads, width })),
    stages: [],
    defaults: generation ? defaultsOf(generation) : {},
  };
}

/** Throws NOT_FOUND unless the checkpoint has its tokenizer: without one text is no tokens. */
export async function checkTokenizer({ directory }: Checkpoint): Promise<void> {
  const file = join(directory, TOKENIZER_FILE);
  await readFile(file).catch((cause: unknown) => {
    throw new HeartwoodError(
      'NOT_FOUND',
      `${file}: ${messageOf(cause)}; expected the tokenizer of the model beside its weights`,
      {
        cause,
      },
    );
  });
}

const ids = z.union([z.int().min(0), z.array(z.int().min(0))]).nullish();
const generationSchema = z.looseObject({
  bos_token_id: ids,
  eos_token_id: ids,
  do_sample: z.boolean().nullish(),
  temperature: z.number().min(0).nullish(),
  top_k: z.int().min(0).nullish(),
  top_p: z.number().gt(0).max(1).nullish(),
  repetition_penalty: z.number().positive().nullish(),
  max_new_tokens: z.int().min(1).nullish(),
});
type Generation = z.infer<typeof generationSchema>;

async function readGeneration({ directory }: Checkpoint): Promise<Generation | undefined> {
  const file = join(directory, GENERATION_FILE);
  const text = await readFile(file, 'utf8').catch(() => undefined);
  if (text === undefined) return undefined;
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw invalid(`${file}: not JSON: ${messageOf(cause)}`, cause);
  }
  return checked(generationSchema, json, file);
}

function checked<T>(schema: z.ZodType<T>, json: unknown, file: string): T {
  const parsed = schema.safeParse(json);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  throw invalid(`${file}: ${issue.path.join('.') || 'the whole'}: ${issue.message}`);
}

/** The tokens that begin and end a text: generation_config.json's, else config.json's. */
function specialTokens(
  { config, directory }: Checkpoint,
  generation: Generation | undefined,
  vocabulary: number,
): Pick<TextPart, 'bos' | 'eos'> {
  const own = checked(z.looseObject({ bos_token_id: ids, eos_token_id: ids }), config, join(directory, 'config.json'));
  const listOf = (given: z.infer<typeof ids>) => (given === undefined || given === null ? [] : [given].flat());
  const known = (list: number[]) => list.filter((id) => id < vocabulary);
  return {
    bos: known(listOf(generation?.bos_token_id ?? own.bos_token_id))[0] ?? null,
    eos: known(listOf(generation?.eos_token_id ?? own.eos_token_id)),
  };
}

/** As transformers reads it: greedy unless `do_sample`. */
function defaultsOf(generation: Generation): TextPart['defaults'] {
  const { do_sample: draws, temperature, top_k, top_p, repetition_penalty, max_new_tokens } = generation;
  const given = <K extends string>(key: K, value: number | null | undefined) =>
    (value === null || value === undefined ? {} : { [key]: value }) as Partial<Record<K, number>>;
  return {
    ...(draws
      ? { temperature: temperature ?? 1, ...given('topK', top_k), ...given('topP', top_p) }
      : { temperature: 0 }),
    ...given('repetitionPenalty', repetition_penalty),
    ...given('maxTokens', max_new_tokens),
  };
}
