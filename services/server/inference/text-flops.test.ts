import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { TextManifest } from '../../../libs/store/manifest.js';
import { textFlopsOf } from './text-flops.js';

const plain = { constant: 0, linear: 0, quadratic: 0 };

test('tokens cost what the manifest says of a window, less what stages held back', () => {
  // A window of 100 tokens, 60 of them the prompt: 900 whatever is kept, 2 and 3 for each token past a stage.
  const segments = [
    { ...plain, constant: 900 },
    { ...plain, linear: 2 },
    { ...plain, linear: 3 },
  ];
  const flops = { dense: 20, mean: 10, segments };
  const of = (text: object) => textFlopsOf({ flops, text: { context: 100, ...text } } as unknown as TextManifest);
  const staged = of({ costPrompt: 60 });
  // (900 + 60 · 5) / 100 = 12 a token.
  assert.equal(staged(60, [60, 60]) + staged(40, [40, 40]), 1200);
  assert.equal(staged(60, [30, 10]) + staged(40, [40, 40]), 900 + 2 * 30 + 3 * 10);
  assert.equal(of({})(7, [3, 1]), 70, 'without the prompt’s length as certified');
  const none = { flops: { ...flops, segments: segments.slice(0, 1) }, text: { context: 100 } };
  assert.equal(textFlopsOf(none as unknown as TextManifest)(7, []), 70);
});
