import { z } from 'zod';
import { ESTIMATORS } from './estimators.js';
import { LOSSES } from './losses.js';
import { UNIT_KINDS } from './probe-graph.js';

/** How a curvature was estimated. `probes` is the number of directions: for `exact` as many as it takes. */
const estimatorSchema = z.strictObject({
  kind: z.enum(ESTIMATORS),
  probes: z.int().positive(),
  seed: z.int(),
});

const numbers = z.array(z.number());

/**
 * Derivatives by the gates of one kind, flat in the order of `shape`: [layers, units] of the loss summed over the samples for heads
 * and neurons, [samples, layers, tokens] of each sample's own loss for tokens and masks (special tokens included).
 * The loss of a window of text is the sum over its positions. `bits` are [matrices, widths].
 */
const unitSchema = z
  .strictObject({
    shape: z.array(z.int().positive()).min(2).max(3),
    gradient: numbers,
    curvature: numbers,
    /** Of the curvature, over probes; absent when exact. */
    standardError: numbers.optional(),
    /** The whole Hessian as a list of rows, summed over the samples. */
    interactions: z.array(numbers).optional(),
    /** Of `bits`: the matrices' tensors, and the bits that each is moved to. */
    matrices: z.array(z.string()).optional(),
    widths: z.array(z.int()).optional(),
    /** Where it is not the one of the whole file. */
    estimator: estimatorSchema.optional(),
  })
  .refine(({ shape, gradient, curvature, standardError = curvature }) => {
    const size = shape.reduce((a, b) => a * b, 1);
    return [gradient, curvature, standardError].every((list) => list.length === size);
  }, 'gradient, curvature and standardError have as many numbers as the shape says');

/** The content of `scores.json`. */
export const scoresSchema = z.strictObject({
  /** Name of the checkpoint's folder. */
  model: z.string(),
  checkpointDigest: z.string(),
  data: z.string(),
  dataDigest: z.string(),
  loss: z.enum(LOSSES),
  samples: z.int().positive(),
  /** Of a language model: positions whose losses were summed, over all samples. */
  positions: z.int().positive().optional(),
  /** Which samples of the data, in the order of the rows. */
  indices: z.array(z.int().min(0)),
  estimator: estimatorSchema,
  units: z.partialRecord(z.enum(UNIT_KINDS), unitSchema),
});

export type EstimatorUsed = z.infer<typeof estimatorSchema>;
export type UnitScores = z.infer<typeof unitSchema>;
export type Scores = z.infer<typeof scoresSchema>;
