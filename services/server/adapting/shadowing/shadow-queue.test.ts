import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ShadowQueue } from './shadow-queue.js';

/** Once everything that was to happen without more being done has happened. */
const settled = async (): Promise<void> => {
  for (let turns = 0; turns < 5; turns++) await new Promise<void>((resolve) => setImmediate(resolve));
};

test('work waits until nothing is under way, then goes one after the other, and asks for its turn between', async () => {
  let busy = true;
  const events: string[] = [];
  const queue = new ShadowQueue(() => !busy);
  const work = (name: string, then?: () => void) => async () => {
    events.push(`${name} begins`);
    then?.();
    await queue.turn();
    events.push(`${name} ends`);
  };
  for (const [name, then] of [['first', () => (busy = true)], ['second']] as const) {
    assert.ok(queue.enter());
    queue.add(work(name, then));
  }
  await settled();
  assert.deepEqual(events, []);
  busy = false;
  queue.look();
  // A call came while the first was at it.
  await settled();
  assert.deepEqual(events, ['first begins']);
  busy = false;
  queue.look();
  await settled();
  assert.deepEqual(events, ['first begins', 'first ends', 'second begins', 'second ends']);
});

test('it looks by itself for the end of what ends without a word', async () => {
  let looks = 0;
  const queue = new ShadowQueue(() => ++looks > 2);
  // Nothing else would keep this process alive.
  const alive = setInterval(() => undefined, 1000);
  await queue.turn();
  await new Promise<void>((resolve) => {
    assert.ok(queue.enter());
    queue.add(() => Promise.resolve(resolve()));
  });
  clearInterval(alive);
});

test('eight calls have a place until they have been compared, or come to nothing', async () => {
  let busy = true;
  const queue = new ShadowQueue(() => !busy);
  const places = (): number => {
    let taken = 0;
    while (queue.enter()) taken++;
    return taken;
  };
  assert.equal(places(), 8);
  queue.leave();
  assert.equal(places(), 1);
  let done = 0;
  for (let call = 0; call < 3; call++) queue.add(async () => Promise.resolve(void done++));
  assert.equal(places(), 0);
  busy = false;
  queue.look();
  await settled();
  await settled();
  assert.equal(done, 3);
  assert.equal(places(), 3);
});

test('a stop lets go of what waits, and of who waits for a turn', async () => {
  const queue = new ShadowQueue(() => false);
  assert.ok(queue.enter());
  queue.add(() => assert.fail('it ran'));
  const turn = assert.rejects(queue.turn(), { code: 'CANCELLED' });
  queue.stop();
  await turn;
  await assert.rejects(queue.turn(), { code: 'CANCELLED' });
  assert.equal(queue.enter(), false);
  queue.look();
  await settled();
});
