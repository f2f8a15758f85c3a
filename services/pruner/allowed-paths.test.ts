import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { HeartwoodError } from '../../libs/errors/error.js';
import { createLogger } from '../../libs/telemetry/log.js';
import { checkAllowed } from './allowed-paths.js';
import { connectPruning, type Job, JobState, type PruneWish } from './client.js';
import { startPruner } from './pruner.js';
import { matrixPruning } from './testing/matrix-pruning.js';

/** models/vit, data/photos and data/labels.bin are allowed; secret/ and models-of-others/ beside them are not. */
const root = realpathSync(mkdtempSync(join(tmpdir(), 'heartwood-roots-')));
const at = (path: string) => join(root, path);
for (const folder of [
  'models/vit',
  'models/linked',
  'data/photos/cat',
  'data/set',
  'secret',
  'models-of-others/vit',
  'store',
]) {
  mkdirSync(at(folder), { recursive: true });
}
for (const file of ['models/vit/config.json', 'models-of-others/vit/config.json', 'secret/config.json', 'secret/key'])
  writeFileSync(at(file), '{}');
writeFileSync(at('data/labels.bin'), '');
writeFileSync(at('store/model.safetensors'), '');
after(() => rmSync(root, { recursive: true, force: true }));

const roots = { modelRoots: [at('models'), at('store')], dataRoots: [at('data')] };
const good = { modelDirectory: at('models/vit'), data: at('data/photos') };

const refused = (text: RegExp) => (error: unknown) =>
  error instanceof HeartwoodError &&
  error.code === 'PERMISSION_DENIED' &&
  text.test(error.message) &&
  !error.message.includes('\n');

test('paths below the roots are allowed, with or without something there, and bundled data always is', async () => {
  const allowed = [
    good,
    { ...good, modelDirectory: at('models') },
    { ...good, data: at('data/labels.bin') },
    { ...good, data: at('data/photos/no-such-split') },
    { ...good, data: 'demo:digits' },
  ];
  for (const request of allowed) await checkAllowed(request, roots);
});

test('without roots everything is allowed', async () => {
  await checkAllowed({ modelDirectory: at('secret'), data: '/etc' }, {});
});

test('a path outside is refused by its field, the path and the roots, whether it is there or not', async () => {
  for (const path of [
    at('secret'),
    '/',
    '/etc/passwd',
    at('nothing/here'),
    at('models-of-others/vit'),
    at('models/../secret'),
  ])
    await assert.rejects(
      checkAllowed({ ...good, modelDirectory: path }, roots),
      refused(new RegExp(`^model_directory: expected a path below ${at('models')} or ${at('store')}, got "${path}"$`)),
      path,
    );
  await assert.rejects(
    checkAllowed({ ...good, data: at('models/vit') }, roots),
    refused(/^data: expected a path below/),
  );
});

test('links may lead from one root to another, and nowhere else', async () => {
  symlinkSync('../../store/model.safetensors', at('models/linked/model.safetensors'));
  symlinkSync('../linked', at('models/linked/itself'));
  await checkAllowed({ ...good, modelDirectory: at('models/linked') }, roots);

  symlinkSync(at('secret'), at('models/to-secret'));
  await assert.rejects(
    checkAllowed({ ...good, modelDirectory: at('models/to-secret') }, roots),
    refused(/^model_directory: .* got ".*\/to-secret"$/),
  );
  await assert.rejects(
    checkAllowed({ ...good, modelDirectory: at('models/to-secret/deeper') }, roots),
    refused(/^model_directory: /),
    'a folder of that name would be made outside',
  );
  symlinkSync('../../../secret/key', at('data/photos/cat/1.png'));
  await assert.rejects(
    checkAllowed(good, roots),
    refused(/^data: .* the symbolic link ".*\/photos\/cat\/1\.png", which leads out of it$/),
  );
  rmSync(at('data/photos/cat/1.png'));
  // What lies beside a file, such as its labels, is read with it.
  symlinkSync(at('secret/key'), at('data/set/train-labels-idx1-ubyte'));
  for (const name of ['train-images-idx3-ubyte', 'train'])
    await assert.rejects(
      checkAllowed({ ...good, data: at(`data/set/${name}`) }, roots),
      refused(/train-labels-idx1-ubyte/),
    );
});

test('a pruner refuses such a job when it comes, and one that has become such when it is taken up', async () => {
  const options = { host: '127.0.0.1', port: 0, metricsPort: 0, heartbeatMs: 20, pollMs: 50, ...roots };
  const folders = { repository: at('repository'), dataDirectory: at('jobs') };
  let goOn = (): void => undefined;
  const held = new Promise<void>((resolve) => (goOn = resolve));
  const pruner = await startPruner(
    { ...options, ...folders },
    { logger: createLogger('test', 'silent'), work: matrixPruning(() => held) },
  );
  const client = connectPruning(`127.0.0.1:${pruner.grpcPort}`);
  const last = async (id: string) => {
    let job: Job | undefined;
    for await (job of client.watch(id));
    return job!;
  };
  try {
    const wish: PruneWish = { modelDirectory: at('models/vit'), data: 'demo:digits', lossBudget: 0.05 };
    const dotted = `${at('models')}/vit/../../secret`;
    for (const modelDirectory of [at('secret'), dotted])
      await assert.rejects(
        client.create({ ...wish, modelDirectory }),
        refused(/^model_directory: expected a path below/),
      );

    // The worker takes one job after the other, so the second one waits while its folder becomes a link.
    mkdirSync(at('models/later'));
    writeFileSync(at('models/later/config.json'), '{}');
    const first = await client.create(wish);
    const second = await client.create({ ...wish, modelDirectory: at('models/later') });
    rmSync(at('models/later'), { recursive: true });
    symlinkSync(at('secret'), at('models/later'));
    goOn();
    assert.equal((await last(first.id)).state, JobState.JOB_STATE_SUCCEEDED);
    const failed = await last(second.id);
    assert.equal(failed.state, JobState.JOB_STATE_FAILED);
    assert.equal(failed.error?.code, 'PERMISSION_DENIED');
  } finally {
    goOn();
    client.close();
    await pruner.stop();
  }
});
