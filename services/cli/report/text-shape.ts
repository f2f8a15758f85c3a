import { z } from 'zod';
import type { TextManifest } from '../../../libs/store/manifest.js';

/** What is left of one block of a language model. */
export interface BlockShape {
  readonly heads: number;
  readonly headsBefore: number;
  readonly neuronsRemoved: number;
  /** Of its matrices, where they are fewer than 32: attention's before and after it, the MLP's in and out. */
  readonly bits: readonly number[];
}

/** A version of a language model, as its manifest says what pruning left. */
export interface TextShape {
  readonly version: number;
  readonly blocks: readonly BlockShape[];
  /** That a decoded token reads; undefined where the manifest does not say. */
  readonly bytesPerToken: number | undefined;
}

/** The part of a plan that is told here. */
const removedSchema = z.object({
  removed: z
    .object({
      heads: z.array(z.array(z.number())),
      neurons: z.array(z.array(z.number())),
      bits: z.record(z.string(), z.number()).optional(),
    })
    .nullable(),
});

const matrices = ['attention.query_key_value', 'attention.dense', 'mlp.dense_h_to_4h', 'mlp.dense_4h_to_h'] as const;

/** What a version's manifest and the plan in it say of its blocks. */
export function shapeOf({ version, text, plan }: TextManifest): TextShape {
  const removed = removedSchema.safeParse(plan).data?.removed ?? undefined;
  const bits = Object.entries(removed?.bits ?? {});
  return {
    version,
    bytesPerToken: text.bytesPerToken,
    blocks: text.caches.map(({ heads }, block) => ({
      heads,
      headsBefore: heads + (removed?.heads[block]?.length ?? 0),
      neuronsRemoved: removed?.neurons[block]?.length ?? 0,
      bits: matrices.flatMap(
        (matrix) => bits.find(([name]) => name.endsWith(`layers.${block}.${matrix}.weight`))?.[1] ?? [],
      ),
    })),
  };
}
