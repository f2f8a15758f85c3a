import assert from 'node:assert/strict';
import { test } from 'node:test';
import { answerNewest } from './newest-only.js';

const never = new AbortController().signal;

/** A source that is told what to give. */
function source<T>() {
  const waiting: T[] = [];
  let ended = false;
  let wake = (): void => undefined;
  return {
    give(...values: T[]) {
      waiting.push(...values);
      wake();
    },
    end() {
      ended = true;
      wake();
    },
    async *[Symbol.asyncIterator](): AsyncGenerator<T> {
      for (;;) {
        const next = waiting.shift();
        if (next !== undefined) yield next;
        else if (ended) return;
        else await new Promise<void>((resolve) => (wake = resolve));
      }
    },
  };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

test('while one is worked on only the newest of those that come is kept, and the others are counted', async () => {
  const frames = source<number>();
  let finish = (): void => undefined;
  const handle = (frame: number) => new Promise<number>((resolve) => (finish = () => resolve(frame)));
  const answers = answerNewest(frames, handle, never);
  frames.give(1);
  const first = answers.next();
  await turn();
  frames.give(2, 3, 4);
  await turn();
  finish();
  assert.deepEqual((await first).value, { answer: 1, dropped: 0 });
  const second = answers.next();
  await turn();
  finish();
  assert.deepEqual((await second).value, { answer: 4, dropped: 2 });
  const third = answers.next();
  frames.give(5);
  await turn();
  frames.end();
  finish();
  assert.deepEqual((await third).value, { answer: 5, dropped: 0 });
  assert.equal((await answers.next()).done, true);
});

test('a failing source fails the stream, and stopping ends it', async () => {
  async function* broken(): AsyncGenerator<number> {
    yield 1;
    throw new Error('the line is cut');
  }
  const answers = answerNewest(broken(), (frame) => Promise.resolve(frame), never);
  await assert.rejects(async () => {
    for await (const { answer } of answers) assert.equal(answer, 1);
  }, /the line is cut/);
  const stop = new AbortController();
  const frames = source<number>();
  const stopped = answerNewest(frames, (frame) => Promise.resolve(frame), stop.signal);
  const waiting = stopped.next();
  stop.abort();
  assert.equal((await waiting).done, true);
});
