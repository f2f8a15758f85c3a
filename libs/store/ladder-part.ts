import { z } from 'zod';

const flops = z.number().min(0);

/** What a manifest says of a ladder: the same model in pieces of fixed shapes, one sample at a time. @param fileName the schema of a file's name */
export function ladderPartSchema(fileName: z.ZodType<string>) {
  const piece = z.object({ file: fileName, flops });
  return z.object({
    /** Counts of tokens that a stage may leave, descending; the first is all of them. */
    counts: z.array(z.int().min(1)).min(2),
    /** From the pixels to what the first stage decides. */
    prefix: piece,
    stages: z.array(
      z.object({
        /** Merges from any count to any lower one; FLOPs by place in `counts`: from, to (0 where nothing is merged). */
        merge: z.object({ file: fileName, flops: z.array(z.array(flops)) }),
        /** For each of the counts: from what this stage leaves to what the next one decides, or to the logits. */
        trunks: z.array(piece),
      }),
    ),
  });
}

export type LadderPart = z.infer<ReturnType<typeof ladderPartSchema>>;

/** What does not fit together, by path and expectation. */
export function refineLadder(
  { counts, prefix, stages }: LadderPart,
  tokens: { readonly total: number; readonly stages: readonly number[] },
  files: Readonly<Record<string, string>>,
  fail: (path: (string | number)[], message: string) => void,
): void {
  if (counts[0] !== tokens.total || counts.some((count, at) => at > 0 && count >= counts[at - 1]!))
    fail(['ladder', 'counts'], `expected descending counts from ${tokens.total}, all tokens`);
  if (stages.length !== tokens.stages.length)
    fail(['ladder', 'stages'], `expected ${tokens.stages.length}, as many as the model has`);
  for (const [at, { merge, trunks }] of stages.entries()) {
    if (trunks.length !== counts.length)
      fail(['ladder', 'stages', at, 'trunks'], `expected ${counts.length}, one a count`);
    if (merge.flops.length !== counts.length || merge.flops.some((row) => row.length !== counts.length))
      fail(
        ['ladder', 'stages', at, 'merge', 'flops'],
        `expected a number for each pair of the ${counts.length} counts`,
      );
  }
  const named = [prefix, ...stages.flatMap(({ merge, trunks }) => [merge, ...trunks])].map(({ file }) => file);
  const missing = named.find((file) => !Object.hasOwn(files, file));
  if (missing !== undefined) fail(['ladder'], `expected ${missing} among the files`);
}

/** FLOPs of one sample whose stages left these counts, each one of the ladder's: of the pieces that ran. */
export function ladderFlops({ counts, prefix, stages }: LadderPart, kept: readonly number[]): number {
  let from = 0;
  let sum = prefix.flops;
  for (const [stage, { merge, trunks }] of stages.entries()) {
    const to = counts.indexOf(kept[stage]!);
    sum += merge.flops[from]![to]! + trunks[to]!.flops;
    from = to;
  }
  return sum;
}
