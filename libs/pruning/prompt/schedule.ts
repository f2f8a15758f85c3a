/**
 * The blocks before which a model of so many drops tokens of a prompt: after a quarter and after half of them. Before the first block a token
 * knows nothing of its text, and towards the end there is little left to save.
 */
export function stageBlocks(blocks: number): number[] {
  return [...new Set([Math.round(blocks / 4), Math.round(blocks / 2)].map((block) => Math.max(1, block)))].filter(
    (block) => block < blocks,
  );
}
