import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Rest } from './rest.js';

const hour = 3_600_000;

test('a wait ends when it is woken, also by what came before it', { timeout: 60_000 }, async () => {
  const rest = new Rest();
  const waited = rest.wait(hour);
  rest.wake();
  await waited;
  rest.wake();
  rest.wake();
  await rest.wait(hour);
});

test('one call ends one wait; else the time does', async () => {
  const rest = new Rest();
  rest.wake();
  await rest.wait(hour);
  let ended = false;
  const waited = rest.wait(20).then(() => (ended = true));
  await Promise.resolve();
  assert.ok(!ended);
  await waited;
});
