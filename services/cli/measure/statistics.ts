/** Measures on times, and those on logits. */
export { argmax, klDivergence, logSoftmax } from '../../../libs/pruning/measure/divergence.js';
export { mean, quantileOrNaN as quantile } from '../../../libs/pruning/statistics/quantiles.js';
