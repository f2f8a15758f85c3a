import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Manifest } from '../../../libs/store/manifest.js';
import { checkBudgetTaken } from './budget.js';

const version = (number: number, pruned: boolean, takes: boolean) =>
  ({
    model: 'net',
    version: number,
    method: pruned ? {} : null,
    budget: takes ? { default: 0, ceiling: 1 } : null,
  }) as unknown as Manifest;

test('a budget is refused where a pruned version, or every one, takes none', () => {
  const [first, heads, tokens] = [version(1, false, false), version(2, true, false), version(3, true, true)];
  const refused = (manifests: Manifest[], of: number) =>
    assert.throws(() => checkBudgetTaken(manifests, 0.1, '--budget'), {
      code: 'INVALID_ARGUMENT',
      message: new RegExp(`^--budget: 0\\.1, expected none: version ${of} of net takes no budget`),
    });
  checkBudgetTaken([first, tokens], 0.1, '--budget');
  checkBudgetTaken([first, heads], undefined, '--budget');
  refused([first], 1);
  refused([heads], 2);
  refused([first, heads, tokens], 2);
});
