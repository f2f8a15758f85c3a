import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { isolations } from './carrier.js';
import { identityModel } from './fixture-model.js';
import type { RelaySource } from './relay.js';
import type { ResidentMemory } from './resident.js';
import { createRuntime, type LateRun, type Runtime, type Session } from './runtime.js';

/** Feeds what the last run came to, and what it is told on top; tells the run's output, and how often it was asked. A path is waited for. */
const adding: RelaySource = {
  module: `data:text/javascript,${encodeURIComponent(`
    import { existsSync } from 'node:fs';
    export function openRelay() {
      let last = 0, runs = 0;
      return {
        before(told) {
          while (typeof told === 'string' && !existsSync(told));
          const add = Number(told) || 0;
          if (add < 0) throw new Error('expected something to add');
          return { x: { type: 'float32', dims: [1, 1], data: Float32Array.of(last + add) } };
        },
        after(add, { x_out }) {
          last = x_out.data[0];
          return { last, runs: ++runs, add };
        },
      };
    }`)}`,
  inputs: ['x'],
};

const held = { a: { type: 'float32', dims: [1, 1] } } as const;
const into = { x_out: { type: 'float32', dims: [1, 1] } } as const;

for (const isolation of isolations) {
  describe(`a relay in a ${isolation}`, () => {
    let runtime: Runtime;
    let session: Session;
    let memory: ResidentMemory;
    before(async () => {
      runtime = createRuntime({ threads: 1, isolation });
      session = await runtime.load(identityModel([{ name: 'x', type: 'float32', shape: ['B', 1] }]));
      memory = await session.allocate(held, undefined, adding);
    });
    after(() => runtime.close());
    const run = (relay: unknown): LateRun => ({ feeds: {}, into, relay });

    test('feeds a run from those before it, and tells what it came to in place of the outputs', async () => {
      const first = await session.runLate(() => run(2), { memory });
      assert.deepEqual([first.outputs, first.told], [{}, { last: 2, runs: 1, add: 2 }]);
      const second = await session.runLate(() => run(3), { memory });
      assert.deepEqual(second.told, { last: 5, runs: 2, add: 3 });
      // Each memory has one of its own.
      const other = await session.allocate(held, undefined, adding);
      const { told } = await session.runLate(() => run(1), { memory: other });
      assert.deepEqual(told, { last: 1, runs: 1, add: 1 });
      await other.free();
    });

    test('a run that was handed over ahead is taken back as long as it has not begun', async () => {
      const fresh = await session.allocate(held, undefined, adding);
      const folder = mkdtempSync(join(tmpdir(), 'heartwood-relay-'));
      const gate = join(folder, 'gate');
      const [early, late] = [new AbortController(), new AbortController()];
      const ahead = ({ signal }: AbortController) => ({ memory: fresh, ahead: true, signal });
      const first = session.runLate(() => run(gate), { memory: fresh });
      const withdrawn = assert.rejects(
        session.runLate(() => run(10), ahead(early)),
        { code: 'CANCELLED' },
      );
      early.abort();
      writeFileSync(gate, '');
      await first;
      await withdrawn;
      const second = session.runLate(() => run(gate), { memory: fresh });
      const begun = session.runLate(() => run(100), ahead(late));
      await second;
      late.abort();
      assert.deepEqual((await begun).told, { last: 100, runs: 3, add: 100 });
      rmSync(folder, { recursive: true });
      await fresh.free();
    });

    test('runs that were asked for ahead come one after the other, each behind what the one before came to', async () => {
      const fresh = await session.allocate(held, undefined, adding);
      const made: number[] = [];
      const turns = [1, 10, 100].map((add) =>
        session.runLate(
          () => {
            made.push(add);
            return run(add);
          },
          { memory: fresh, ahead: true },
        ),
      );
      // The third waits until one is answered.
      assert.deepEqual(made, [1, 10]);
      const told = (await Promise.all(turns)).map((turn) => (turn.told as { last: number }).last);
      assert.deepEqual(told, [1, 11, 111]);
      await fresh.free();
    });

    test('what it throws fails its run alone', async () => {
      const fresh = await session.allocate(held, undefined, adding);
      const [wrong, right] = [-1, 4].map((add) => session.runLate(() => run(add), { memory: fresh, ahead: true }));
      await assert.rejects(wrong!, { code: 'INTERNAL', message: /the run failed: expected something to add/ });
      assert.deepEqual((await right!).told, { last: 4, runs: 1, add: 4 });
      await fresh.free();
    });

    test('is refused where there is none, or nothing that outputs go into', async () => {
      const plain = await session.allocate(held);
      const wrong = { code: 'INVALID_ARGUMENT', message: /relay: expected with a memory that has one, and with into/ };
      await assert.rejects(
        session.runLate(() => run(1), { memory: plain }),
        wrong,
      );
      await assert.rejects(
        session.runLate(() => ({ feeds: {}, relay: 1 }), { memory }),
        wrong,
      );
      await assert.rejects(session.allocate(held, undefined, { ...adding, module: 'data:text/javascript,' }), {
        message: /openRelay is not a function/,
      });
      await plain.free();
    });
  });
}
