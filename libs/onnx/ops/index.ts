export * from './arithmetic.js';
export * from './linear.js';
export * from './normalise.js';
export * from './reduce.js';
export * from './select.js';
export * from './sequence.js';
export * from './shape.js';
export * from './fused.js';
