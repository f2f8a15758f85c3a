import type { DifferentiableOp } from '../operators.js';
import type { RuleFamily } from '../rule.js';
import { arithmeticRules } from './arithmetic.js';
import { linearRules } from './linear.js';
import { normaliseRules } from './normalise.js';
import { reduceRules } from './reduce.js';
import { selectRules } from './select.js';
import { shapeRules } from './shape.js';

/** Every differentiable operator with both its rules; an operator without one does not compile. */
export const rules: RuleFamily<DifferentiableOp> = {
  ...arithmeticRules,
  ...linearRules,
  ...normaliseRules,
  ...reduceRules,
  ...selectRules,
  ...shapeRules,
};
