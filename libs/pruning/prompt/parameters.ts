/** What a stage that drops tokens of a prompt is: plain data, part of the plan. Matrices are row-major; D is the width of a token. */

/**
 * A two-layer predictor of one number a token: gelu(f·A + b1)·w2 + b2 with f = LN([z; m]), where z is the layer-normed token (no affine part)
 * as it enters the block, and m the mean of z over the tokens of its chunk up to itself: nothing that comes after the token.
 */
export interface PromptProbe {
  /** [2D, hidden]: A. */
  readonly matrix: Float32Array;
  /** [hidden]: b1. */
  readonly bias: Float32Array;
  /** [hidden]: w2. */
  readonly output: Float32Array;
  /** b2. */
  readonly outputBias: number;
}

/** A token whose predicted log curvature is below the stage's threshold is dropped before the block. */
export interface PromptStage {
  /** The block that the tokens enter next. */
  readonly block: number;
  /**
   * So many tokens up to one whose logits are asked for stay, itself included: what is next to the end of a prompt matters far more than what
   * is not. They stay by their place, and are not judged.
   */
  readonly recent: number;
  readonly probe: PromptProbe;
}

/** Tokens of one run of a prompt, as stages are calibrated and served: their means are of a run, and its last tokens stay. */
export const servedChunk = 128;

/** Of a window of calibration text, its prompt: what is left is what the prompt is judged by. */
const promptShare = 0.75;

/** Tokens of a window of so many that are its prompt. */
export function promptOfWindow(positions: number): number {
  return Math.max(2, Math.floor(promptShare * positions));
}
