import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { invalid, HeartwoodError, messageOf } from '../errors/error.js';
import { type ImagePreprocessing, imagePreprocessingSchema } from '../models/preprocessing.js';
import { ladderPartSchema, refineLadder } from './ladder-part.js';
import { refineText, textPartSchema } from './text-part.js';

/** Name of the file that stands beside model.onnx in every version and says what that version is. */
export const MANIFEST_FILE = 'heartwood.json';

/** The tasks that a version may be for. */
export const IMAGE_CLASSIFICATION = 'image-classification';
export const TEXT_GENERATION = 'text-generation';

const sha256 = z.string().regex(/^[0-9a-f]{64}$/, 'expected 64 lower-case hexadecimal digits (SHA-256)');
const count = z.int().min(0);
const positive = z.int().min(1);
/** A file of a version is a plain name in its folder: a manifest cannot make a reader leave the folder. */
const fileName = z
  .string()
  .regex(/^[A-Za-z0-9_][A-Za-z0-9._-]*$/, 'expected a plain file name')
  .refine((name) => name !== MANIFEST_FILE, `expected any file but ${MANIFEST_FILE} itself`);

const methodSchema = z.object({
  policy: z.string().min(1),
  loss: z.enum(['kl', 'cross-entropy']),
  /** Nats per sample (per predicted position of text); null when FLOPs were the target. */
  lossBudget: z.number().min(0).nullable(),
  /** Share of the dense FLOPs to save, in [0, 1); null when a loss budget was the target. */
  flopsSaved: z.number().min(0).lt(1).nullable(),
  units: z.array(z.string().min(1)),
  seed: z.int(),
});

const tokensSchema = z.object({
  /** Tokens at the entry of the first block, special ones included. */
  total: positive,
  /** Class and distillation tokens, which are never merged. */
  special: count,
  /** Index of the block in which each merging stage sits, between its attention and its MLP. */
  stages: z.array(count),
});

const segmentSchema = z.object({
  constant: z.number(),
  linear: z.number(),
  quadratic: z.number(),
  cross: z.number().exactOptional(),
});

const flopsSchema = z.object({
  /** FLOPs of one sample through version 1 (a multiply-add counts as 2); of text: of a token, its window's mean. */
  dense: z.number().positive(),
  /** Mean FLOPs of one sample (token) of the calibration data through this version at its default budget. */
  mean: z.number().positive(),
  /** What each stretch between stages costs for one sample or one window (segments.ts); one more segment than there are stages. */
  segments: z.array(segmentSchema),
});

const deltaLossSchema = z.object({
  predicted: z.number(),
  measured: z.number(),
  /** Upper confidence bound of the mean. */
  bound: z.number(),
  confidence: z.number().gt(0).lt(1),
  /** Images, or predicted positions of text. */
  samples: positive,
  /** Documents of the certifying text: positions of one are not independent, so the bound is by document. */
  documents: positive.exactOptional(),
});

/** What every version says of itself, whatever its task. */
const commonShape = {
  schema: z.literal(1),
  model: z.string().min(1),
  version: positive,
  parent: positive.nullable(),
  createdAt: z.iso.datetime(),
  architecture: z.string().min(1),
  checkpointDigest: z.string().min(1),
  dataDigest: z.string().min(1).nullable(),
  method: methodSchema.nullable(),
  plan: z.unknown(),
  files: z.record(fileName, sha256),
  flops: flopsSchema,
  /** Nats per sample (per predicted position of text); null when the graph has no `budget` input. */
  budget: z.object({ default: z.number().min(0), ceiling: z.number().min(0) }).nullable(),
  deltaLoss: deltaLossSchema.nullable(),
  /** Share of the samples (of text: of the next tokens) that were foretold. */
  accuracy: z.object({ dense: z.number().min(0).max(1), pruned: z.number().min(0).max(1) }).nullable(),
  /** Names what published the version (a job), so that publishing again after a crash finds it instead of doubling it. */
  publication: z.string().min(1).exactOptional(),
};

const imageSchema = z.object({
  ...commonShape,
  task: z.literal(IMAGE_CLASSIFICATION),
  input: z.object({ height: positive, width: positive, channels: positive }),
  labels: z.array(z.string()),
  preprocessing: imagePreprocessingSchema as z.ZodType<ImagePreprocessing>,
  tokens: tokensSchema,
  /** The same model at fixed counts of tokens, where it was written too. */
  ladder: ladderPartSchema(fileName).exactOptional(),
});

const textSchema = z.object({
  ...commonShape,
  task: z.literal(TEXT_GENERATION),
  text: textPartSchema(fileName),
  /** exp of the mean cross-entropy in nats of a token of the certifying text, of version 1 and of this one; null where none was measured. */
  perplexity: z.object({ dense: z.number().positive(), pruned: z.number().positive() }).nullable(),
});

/**
 * Schema of heartwood.json: a union by `task`, which is image classification where none is named. Keys that it does not name are dropped on
 * reading, so that a newer writer's file can be read.
 */
export const manifestSchema = z
  .preprocess(withTask, z.discriminatedUnion('task', [imageSchema, textSchema]))
  .superRefine((manifest, context) => {
    const fail = (path: (string | number)[], message: string) => context.addIssue({ code: 'custom', path, message });
    if (manifest.parent !== null && manifest.parent >= manifest.version)
      fail(['parent'], `expected a version older than ${manifest.version}, got ${manifest.parent}`);
    const stages = stagesOf(manifest).length;
    if (manifest.flops.segments.length !== stages + 1)
      fail(['flops', 'segments'], `expected ${stages + 1} segments (one more than stages)`);
    if (manifest.budget && manifest.budget.default > manifest.budget.ceiling)
      fail(['budget', 'default'], `expected at most the ceiling ${manifest.budget.ceiling}`);
    if (manifest.task === IMAGE_CLASSIFICATION) {
      if (manifest.tokens.special > manifest.tokens.total)
        fail(['tokens', 'special'], `expected at most ${manifest.tokens.total} (all tokens)`);
      if (manifest.ladder) refineLadder(manifest.ladder, manifest.tokens, manifest.files, fail);
    } else refineText(manifest.text, manifest.files, fail);
  });

/** What heartwood.json says of a version. */
export type Manifest = z.infer<typeof manifestSchema>;
/** Of an image classifier. */
export type ImageManifest = Extract<Manifest, { task: typeof IMAGE_CLASSIFICATION }>;
/** Of a language model. */
export type TextManifest = Extract<Manifest, { task: typeof TEXT_GENERATION }>;

/** Index of the block that each token stage sits in (images) or before (text). */
export function stagesOf(manifest: Manifest): readonly number[] {
  return manifest.task === TEXT_GENERATION ? manifest.text.stages : manifest.tokens.stages;
}

/** @throws HeartwoodError INVALID_ARGUMENT for a language model */
export function imageManifest(manifest: Manifest): ImageManifest {
  if (manifest.task === IMAGE_CLASSIFICATION) return manifest;
  throw invalid(`version ${manifest.version} of ${manifest.model}: expected an image classifier, it generates text`);
}

/** @throws HeartwoodError INVALID_ARGUMENT for an image classifier */
export function textManifest(manifest: Manifest): TextManifest {
  if (manifest.task === TEXT_GENERATION) return manifest;
  throw invalid(`version ${manifest.version} of ${manifest.model}: expected a language model, it classifies images`);
}

/** Manifests of before there were language models name no task. */
function withTask(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || 'task' in value) return value;
  return { ...value, task: IMAGE_CLASSIFICATION };
}

/** One line for the first thing that is wrong: `field: what was expected`. */
export function describeIssues(error: z.ZodError): string {
  const issue = error.issues[0];
  if (!issue) return 'does not fit its schema';
  const field = issue.path.map((part) => (typeof part === 'number' ? `[${part}]` : `.${String(part)}`)).join('');
  const more = error.issues.length > 1 ? ` (and ${error.issues.length - 1} more)` : '';
  const message = issue.code === 'invalid_key' ? (issue.issues[0]?.message ?? issue.message) : issue.message;
  return `${field.replace(/^\./, '') || 'the whole'}: ${message}${more}`;
}

/**
 * Reads the text of a heartwood.json.
 * @param file name for messages
 * @throws HeartwoodError INVALID_ARGUMENT naming the file, the field and what was expected
 */
export function parseManifest(text: string, file: string): Manifest {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw invalid(`${file}: expected JSON, got ${JSON.stringify(text.slice(0, 40))}`, cause);
  }
  const parsed = manifestSchema.safeParse(value);
  if (!parsed.success) throw invalid(`${file}: ${describeIssues(parsed.error)}`, parsed.error);
  return parsed.data;
}

/** Checks a manifest before it is written. @throws HeartwoodError INVALID_ARGUMENT naming the field */
export function checkManifest(manifest: unknown, file: string): Manifest {
  return parseManifest(JSON.stringify(manifest), file);
}

/** Reads a heartwood.json from disk. @throws HeartwoodError NOT_FOUND, or INVALID_ARGUMENT as {@link parseManifest} */
export async function readManifestFile(file: string): Promise<Manifest> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === 'ENOENT';
    throw new HeartwoodError(
      missing ? 'NOT_FOUND' : 'UNAVAILABLE',
      `${file}: ${missing ? 'no such file' : messageOf(cause)}`,
      { cause },
    );
  }
  return parseManifest(text, file);
}
