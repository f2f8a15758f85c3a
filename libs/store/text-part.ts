import { z } from 'zod';

const count = z.int().min(0);
const positive = z.int().min(1);

/** What a request that does not say gets; from the checkpoint's generation_config.json. Absent: the server's own. */
const defaultsSchema = z.object({
  /** 0 is greedy. */
  temperature: z.number().min(0).exactOptional(),
  /** Likeliest tokens to draw from; 0: all. */
  topK: count.exactOptional(),
  /** Probability that the tokens to draw from make up. */
  topP: z.number().gt(0).max(1).exactOptional(),
  repetitionPenalty: z.number().positive().exactOptional(),
  maxTokens: positive.exactOptional(),
});

const cacheSchema = z.object({
  /** Heads of the block, as many as pruning left. */
  heads: positive,
  /** Width of one head's key, and of its value. */
  width: positive,
});

/** What a manifest says of a language model. @param fileName of a file of the version */
export function textPartSchema<T extends z.ZodType<string>>(fileName: T) {
  return z.object({
    /** The file of the version that holds its tokenizer, in Hugging Face's format. */
    tokenizer: fileName,
    /** Positions that a sequence may have, prompt and answer together. */
    context: positive,
    /** Columns of the logits; the tokenizer may know fewer tokens, since vocabularies are padded. */
    vocabulary: positive,
    /** The token that a text begins with; null for none. */
    bos: count.nullable(),
    /** Tokens that end a text. */
    eos: z.array(count),
    /** Key and value cache of each block. */
    caches: z.array(cacheSchema).min(1),
    /** Index of the block before which each token stage sits, ascending; empty without dynamic prompt tokens. */
    stages: z.array(positive),
    /** Of all weights, and of the linear layers in the blocks; of the latter also as many as version 1 has. */
    parameters: z.object({ all: positive, blocks: positive, denseBlocks: positive }).exactOptional(),
    /** Bytes that a decoded token reads: every weight but the embeddings', once. Without the cache. */
    bytesPerToken: positive.exactOptional(),
    /** Mean bits of a weight of the matrices; absent: they are float32. */
    bits: z.number().positive().max(32).exactOptional(),
    /** With stages: tokens of the prompt in the window that `flops.segments` are the cost of. Absent of older versions. */
    costPrompt: positive.exactOptional(),
    defaults: defaultsSchema,
  });
}

/** What a manifest says of a language model. */
export type TextPart = z.infer<ReturnType<typeof textPartSchema<z.ZodString>>>;
/** What a request that does not say gets. */
export type GenerationDefaults = TextPart['defaults'];

/** What has to fit together. @param fail called with the path and what was expected */
export function refineText(
  { tokenizer, vocabulary, bos, eos, caches, stages }: TextPart,
  files: Readonly<Record<string, string>>,
  fail: (path: (string | number)[], message: string) => void,
): void {
  if (!Object.hasOwn(files, tokenizer)) fail(['text', 'tokenizer'], `expected one of the files, got ${tokenizer}`);
  if (bos !== null && bos >= vocabulary) fail(['text', 'bos'], `expected a token below ${vocabulary}, got ${bos}`);
  for (const [at, id] of eos.entries())
    if (id >= vocabulary) fail(['text', 'eos', at], `expected a token below ${vocabulary}, got ${id}`);
  for (const [at, block] of stages.entries())
    if (block >= caches.length || block <= (stages[at - 1] ?? 0))
      fail(['text', 'stages', at], `expected ascending blocks from 1 to ${caches.length - 1}, got ${block}`);
}
