import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { z } from 'zod';
import { openEngine } from './continuous-engine.js';
import type { GenerationEngine } from './engine.js';
import { generationSchema } from './settings.js';
import { ask, collect, never, smallModel, type SmallModel } from './testing/small-engine.js';

let small: SmallModel;
before(async () => void (small = await smallModel({ threads: 1, isolation: 'process' })));
after(() => small.close());

const prompt = 'The worker is a process, and processes die.';

function kill(): void {
  const [pid] = small.runtime.processes().values();
  process.kill(pid!, 'SIGKILL');
}

async function expected(engine: GenerationEngine, change = {}): Promise<string> {
  return (await collect(engine.generate(ask(prompt, change), never))).text;
}

test('a worker that is killed ends the texts that had begun, and the engine lives on', async () => {
  const engine = await small.engine({ generationRows: 2 });
  const [short, long] = [await expected(engine), await expected(engine, { maxTokens: 50 })];
  const running = engine.generate(ask(prompt, { maxTokens: 50 }), never)[Symbol.asyncIterator]();
  const first = await running.next();
  assert.equal(first.value?.kind, 'text');
  const waiting = [0, 1, 2].map(() => collect(engine.generate(ask(prompt), never)));
  kill();
  let read = first.value?.kind === 'text' ? first.value.text : '';
  await assert.rejects(
    async () => {
      for (let next = await running.next(); !next.done; next = await running.next())
        if (next.value.kind === 'text') read += next.value.text;
    },
    { code: 'UNAVAILABLE', message: /died with the cache of the request; it may be tried again/ },
  );
  assert.ok(long.startsWith(read), 'what was told before is right');
  // Whoever had not begun is served by the worker that came after; what the dead one held of prompts is not taken for there.
  for (const { text } of await Promise.all(waiting)) assert.equal(text, short);
  const again = await collect(engine.generate(ask(prompt), never));
  assert.equal(again.text, short);
  assert.equal(again.end.usage.cachedTokens, 40);
  assert.deepEqual([engine.load.running, engine.load.waiting], [0, 0]);
  await engine.close();
});

test('one that is killed while nothing runs costs nobody anything', async () => {
  const engine = await small.engine();
  const short = await expected(engine);
  kill();
  const { text, end } = await collect(engine.generate(ask(prompt), never));
  assert.equal(text, short);
  assert.equal(end.usage.cachedTokens, 0);
  await engine.close();
});

test('a step that the runtime refuses ends the requests that were in it, and no others', async () => {
  const whole = await small.engine();
  const broken = { ...small.model, vocabulary: small.model.vocabulary + 1 };
  const settings = z.object(generationSchema).parse({ prefillChunk: 8 });
  const engine = await openEngine({ session: small.session, model: broken, vocabulary: small.vocabulary, settings });
  await assert.rejects(collect(engine.generate(ask(prompt), never)), { code: 'INTERNAL', message: /the run failed/ });
  assert.equal(engine.load.running, 0);
  await assert.rejects(collect(engine.generate(ask(prompt), never)), { code: 'INTERNAL' });
  await engine.close();
  await collect(whole.generate(ask(prompt), never));
  await whole.close();
});
