import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import sharp from 'sharp';
import type { Repository } from '../../../libs/store/repository.js';
import { imageManifest } from '../../../libs/store/manifest.js';
import { connectInference } from '../../server/client.js';
import { budgetDraft, budgetModel, meanModel, publishGraph } from '../../server/testing/fixture-models.js';
import { temporaryRepository } from '../../server/testing/temporary-repository.js';
import { startChild } from './child.js';
import { demoTable, summarise } from './summary.js';
import { streamTraffic, type TestImage } from './traffic.js';
import { waitForVersions } from './version-wait.js';

let repository: Repository;
let remove: () => Promise<void>;
before(async () => {
  ({ repository, remove } = await temporaryRepository());
  await publishGraph(repository, 'demo', meanModel());
});
after(() => remove());

const local = ['--host', '127.0.0.1', '--port', '0', '--metrics-port', '0'];
const { signal } = new AbortController();

/** A plain 8×8 image whose pixels become 1 in one channel and −1 in the others. */
const image = async (channel: number): Promise<TestImage> => {
  const background = { r: channel === 0 ? 255 : 0, g: channel === 1 ? 255 : 0, b: channel === 2 ? 255 : 0 };
  const picture = sharp({ create: { width: 8, height: 8, channels: 3, background } });
  return { encoded: await picture.png().toBuffer(), label: channel };
};

describe('the demo', () => {
  it('streams images through versions of a server of its own, which takes up what is published', async () => {
    const server = await startChild(
      'serve',
      ['--repository', repository.directory, '--poll-ms', '50', ...local],
      signal,
    );
    const client = connectInference(`127.0.0.1:${server.grpcPort}`);
    try {
      await waitForVersions(client, server, 'demo', [1], signal);
      const version = await publishGraph(repository, 'demo', budgetModel(), budgetDraft);
      await waitForVersions(client, server, 'demo', [version], signal);

      const images = await Promise.all([0, 1, 2, 0].map(image));
      const lanes = [{ version: 1 }, { version }, { version, budget: 1 }];
      const counts: number[] = [];
      const progress = ({ done }: { done: number }) => void counts.push(done);
      const answers = await streamTraffic(client, 'demo', lanes, images, {
        warmup: 2,
        meter: undefined,
        signal,
        progress,
      });
      assert.deepEqual(
        answers.map((lane) => lane.length),
        [4, 4, 4],
        'warm-up is not counted',
      );
      assert.deepEqual(counts, [1, 2, 3, 4]);
      assert.deepEqual(
        answers[0]!.map(({ logits }) => [...logits].map(Math.round)),
        [
          [1, -1, -1],
          [-1, 1, -1],
          [-1, -1, 1],
          [1, -1, -1],
        ],
      );
      assert.deepEqual(answers[1]![0]!.kept, [16, 15]);
      assert.deepEqual(answers[2]![3]!.kept, [13, 9]);
      assert.ok(answers.flat().every(({ latencyMs }) => latencyMs > 0));

      const manifests = await Promise.all(
        [1, version].map((each) => repository.readManifest('demo', each).then(imageManifest)),
      );
      const rows = manifests.map((manifest, at) => summarise(manifest, answers[at]!, answers[0]!, images));
      assert.equal(rows[1]!.accuracy, 1);
      assert.ok(Math.abs(rows[1]!.deltaLoss) < 1e-6, 'a shift of all logits is no loss');
      assert.ok(Math.abs(rows[0]!.loss - (Math.log(Math.E + 2 / Math.E) - 1)) < 1e-5);
      assert.deepEqual(rows[1]!.tokensKept, [16, 15]);
      const table = demoTable(rows, [17, 17]);
      assert.deepEqual(table.head, ['', 'version 1 (unpruned)', 'version 2 (curvature)']);
      assert.ok(table.rows.some((row) => row.join() === 'joules per image,no meter,no meter'));
      assert.ok(table.rows.some(([what, , pruned]) => what === 'tokens' && pruned === '17 → 16.0 → 15.0'));

      const failing = streamTraffic(client, 'demo', [{ version: 9 }], images, {
        warmup: 0,
        meter: undefined,
        signal,
        progress,
      });
      await assert.rejects(failing, /version 9 of demo/);
    } finally {
      client.close();
      await server.stop();
    }
    assert.match(await server.ended, /serve ended with code 0/);
  });

  it('says why a service did not start', async () => {
    const starting = startChild('serve', ['--repository', `${repository.directory}/absent`, ...local], signal);
    await assert.rejects(starting, /serve ended with code 2: heartwood: repository .*absent: expected a folder/);
  });

  it('kills the services when it is told to stop', async () => {
    const controller = new AbortController();
    const starting = startChild('serve', ['--repository', repository.directory, ...local], controller.signal);
    setImmediate(() => controller.abort());
    await assert.rejects(starting, { name: 'AbortError' });
  });
});
