/** The name of the input for preprocessed pixels, [B, C, H, W]; it may come as encoded files instead, as `image`. */
export const PIXELS = 'pixel_values';
export const IMAGE = 'image';
/** Nats per sample, [B, 1]. */
export const BUDGET = 'budget';
/** A score of each class, [B, classes]. */
export const LOGITS = 'logits';
/** Tokens that each stage kept, [B, stages]. */
export const TOKENS_KEPT = 'tokens_kept';
