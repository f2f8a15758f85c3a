import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pino } from 'pino';
import { liveServer } from '../../testing/live-server.js';

test('an objective of a model that is not in the repository is warned of, once, and others are not', async () => {
  const lines: Record<string, unknown>[] = [];
  const log = pino({}, { write: (line: string) => void lines.push(JSON.parse(line) as Record<string, unknown>) });
  const latencySlo = [
    { model: 'net', ms: 50 },
    { model: 'nomodel', ms: 60 },
    { model: null, ms: 70 },
  ];
  const live = await liveServer({ latencySlo }, {}, log);
  await live.stop();
  const warned = lines.filter(({ msg }) => msg === 'a model with a latency objective is not in the repository');
  assert.deepEqual(
    warned.map(({ model, objectiveMs }) => [model, objectiveMs]),
    [['nomodel', 60]],
  );
});
