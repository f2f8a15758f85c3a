import assert from 'node:assert/strict';
import { test } from 'node:test';
import { answerInOrder, answerStream } from './answer-stream.js';

const never = new AbortController().signal;

async function collect<T>(answers: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const answer of answers) all.push(answer);
  return all;
}

async function* numbers(count: number): AsyncGenerator<number> {
  for (let i = 0; i < count; i++) yield await Promise.resolve(i);
}

test('answers come in the order of the requests however long each takes', async () => {
  const slowFirst = async (i: number) => {
    await new Promise((resolve) => setTimeout(resolve, (20 - i) % 7));
    return i;
  };
  assert.deepEqual(await collect(answerInOrder(numbers(20), 4, slowFirst, never)), [...Array(20).keys()]);
  assert.deepEqual(await collect(answerInOrder(numbers(0), 4, slowFirst, never)), []);
});

test('no more than the window is worked on, and no more is read', async () => {
  let atWork = 0;
  let most = 0;
  const handle = async (i: number) => {
    most = Math.max(most, ++atWork);
    await new Promise((resolve) => setImmediate(resolve));
    atWork--;
    return i;
  };
  await collect(answerInOrder(numbers(30), 3, handle, never));
  assert.equal(most, 3);

  let read = 0;
  async function* counted(): AsyncGenerator<number> {
    for (;;) yield await Promise.resolve(read++);
  }
  const answers = answerInOrder(counted(), 3, (i) => Promise.resolve(i), never);
  await answers.next();
  await new Promise((resolve) => setTimeout(resolve, 5));
  // One is answered, three are in the window.
  assert.ok(read <= 4, `${read} requests were read of a stream whose answers nobody takes`);
  await answers.return();
});

test('told to stop, it answers what it has and ends, though the client would go on', async () => {
  const stop = new AbortController();
  async function* endless(): AsyncGenerator<number> {
    yield 0;
    yield 1;
    await new Promise(() => undefined);
  }
  const got: number[] = [];
  for await (const answer of answerInOrder(endless(), 4, (i) => Promise.resolve(i), stop.signal)) {
    got.push(answer);
    if (answer === 1) stop.abort();
  }
  assert.deepEqual(got, [0, 1]);
});

test('a source that fails ends the stream with its error', async () => {
  async function* failing(): AsyncGenerator<number> {
    yield await Promise.resolve(0);
    throw new Error('the client is gone');
  }
  await assert.rejects(collect(answerInOrder(failing(), 4, (i) => Promise.resolve(i), never)), /the client is gone/);
});

test('replies in many pieces take turns, and hold neither each other nor those in one piece up', async () => {
  let release = (): void => undefined;
  const held = new Promise<void>((resolve) => (release = resolve));
  async function* pieces(name: string): AsyncGenerator<string> {
    yield `${name}1`;
    // The others come to their end while this one waits in the middle.
    if (name === 'a') await held;
    yield `${name}2`;
  }
  const requests = ['a', 'b', 'once', 'c'];
  async function* source(): AsyncGenerator<string> {
    for (const request of requests) yield await Promise.resolve(request);
  }
  const got: string[] = [];
  const handle = (name: string) => (name === 'once' ? { once: Promise.resolve('once') } : { pieces: pieces(name) });
  for await (const answer of answerStream(source(), { once: 4, pieces: 4 }, handle, never)) {
    got.push(answer);
    if (['b2', 'c2', 'once'].every((answer) => got.includes(answer))) release();
  }
  assert.deepEqual([...got].sort(), ['a1', 'a2', 'b1', 'b2', 'c1', 'c2', 'once']);
  assert.equal(got.at(-1), 'a2');
  assert.ok(got.indexOf('b1') < got.indexOf('b2'));
});

test('of a reply in pieces no more is made than is taken, and leaving the stream ends it', async () => {
  let made = 0;
  let left = false;
  async function* endless(): AsyncGenerator<number> {
    try {
      for (;;) yield await Promise.resolve(made++);
    } finally {
      left = true;
    }
  }
  const answers = answerStream(numbers(1), { once: 1, pieces: 1 }, () => ({ pieces: endless() }), never);
  for (let i = 0; i < 5; i++) assert.equal((await answers.next()).value, i);
  await new Promise((resolve) => setImmediate(resolve));
  assert.ok(made <= 7, `${made} pieces were made of which five were taken`);
  await answers.return();
  await new Promise((resolve) => setImmediate(resolve));
  assert.ok(left);
});
