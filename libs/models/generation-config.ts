import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { invalid, messageOf } from '../errors/error.js';
import type { Checkpoint } from './checkpoint.js';

/** The file of a checkpoint that says how it is generated with. */
export const GENERATION_CONFIG_FILE = 'generation_config.json';

/** How a checkpoint wants to be generated with, by its generation_config.json, or else its config.json. */
export interface GenerationConfig {
  /** The token that a text begins with; null for none. */
  readonly bos: number | null;
  /** Tokens that end a text. */
  readonly eos: readonly number[];
  /** What a request that does not say gets; what is absent the checkpoint leaves open. A temperature of 0 is greedy. */
  readonly defaults: {
    readonly temperature?: number;
    readonly topK?: number;
    readonly topP?: number;
    readonly repetitionPenalty?: number;
    readonly maxTokens?: number;
  };
  /** The file's text, to be kept beside a version; undefined where there is none. */
  readonly file: string | undefined;
}

const id = z.int().min(0);
const schema = z.looseObject({
  bos_token_id: id.nullish(),
  eos_token_id: z.union([id, z.array(id)]).nullish(),
  do_sample: z.boolean().nullish(),
  temperature: z.number().min(0).nullish(),
  top_k: z.int().min(0).nullish(),
  top_p: z.number().gt(0).max(1).nullish(),
  repetition_penalty: z.number().positive().nullish(),
  max_new_tokens: z.int().min(1).nullish(),
});

/** Hugging Face draws from so many unless told otherwise. */
const usualTopK = 50;

/** Reads it. Throws INVALID_ARGUMENT naming the file and the field. */
export async function readGenerationConfig(checkpoint: Checkpoint): Promise<GenerationConfig> {
  const path = join(checkpoint.directory, GENERATION_CONFIG_FILE);
  const bytes = await readFile(path).catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw invalid(`${path}: cannot be read: ${messageOf(error)}`, error);
  });
  // Decoded so, it loses the byte order mark that some editors put before a text.
  const file = bytes && new TextDecoder().decode(bytes);
  const own = file === undefined ? {} : parse(jsonOf(file, path), path);
  const { bos_token_id: bos, eos_token_id: eos } = parse(checkpoint.config, join(checkpoint.directory, 'config.json'));
  const ends = own.eos_token_id ?? eos ?? [];
  return {
    bos: own.bos_token_id ?? bos ?? null,
    eos: [...new Set(typeof ends === 'number' ? [ends] : ends)],
    defaults: defaultsOf(own),
    file,
  };
}

/** Without `do_sample` Hugging Face is greedy, whatever the temperature says. */
function defaultsOf(config: z.infer<typeof schema>): GenerationConfig['defaults'] {
  const drawn = config.do_sample === true;
  const given = {
    temperature: drawn ? (config.temperature ?? 1) : undefined,
    topK: drawn ? (config.top_k ?? usualTopK) : undefined,
    topP: drawn ? config.top_p : undefined,
    repetitionPenalty: config.repetition_penalty,
    maxTokens: config.max_new_tokens,
  };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => typeof value === 'number'));
}

function jsonOf(text: string, path: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw invalid(`${path}: not JSON: ${messageOf(error)}`, error);
  }
}

function parse(json: unknown, path: string): z.infer<typeof schema> {
  const parsed = schema.safeParse(json);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  throw invalid(`${path}: ${issue.path.join('.') || 'the whole'}: ${issue.message}`);
}
