import assert from 'node:assert/strict';
import { appendFile, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { Status } from 'nice-grpc';
import { agxOrin } from '../../../libs/energy/testing/boards.js';
import { moving } from '../../../libs/energy/testing/moving-board.js';
import type { textManifest } from '../../../libs/store/manifest.js';
import { FinishReason, VersionState } from '../../../proto/gen/heartwood/serving/v1/serving.js';
import type { ServerOptions } from '../options.js';
import { refused, until } from '../testing/live-server.js';
import { publishTextModel, textContext, type TextServer, textServer } from '../testing/text-server.js';

async function served(context: TestContext, options: Partial<ServerOptions> = {}): Promise<TextServer> {
  const live = await textServer(options);
  context.after(() => live.stop());
  return live;
}

const running = (live: TextServer, version = 2) =>
  live.metric(`heartwood_model_running_requests{model="lm",version="${version}"}`);

test('beyond its rows and its queue a version refuses at once', async (context) => {
  const live = await served(context, { generationRows: 1, generationQueueLimit: 1 });
  const controller = new AbortController();
  const endless = { text: 'x', ignoreEos: true };
  const first = live.generate(endless, controller.signal);
  await until(async () => (await running(live)) === 1);
  const second = live.generate(endless, controller.signal);
  const waiting = 'heartwood_model_queue_length{model="lm",version="2"}';
  await until(async () => (await live.metric(waiting)) === 1);
  await refused(live.generate(endless), Status.RESOURCE_EXHAUSTED, /the queue is full: 1 requests wait for a row/);
  // Another version has rows of its own.
  assert.equal((await live.generate({ ...endless, version: 1n, maxTokens: 3 })).ids.length, 3);
  controller.abort();
  await Promise.allSettled([first, second]);
  await until(async () => (await running(live)) + (await live.metric(waiting)) === 0);
});

test('memory for not one text is a reason why a version is unavailable', async (context) => {
  const live = await served(context, { generationCacheBytes: 1000 });
  await refused(
    live.generate({ text: 'x' }),
    Status.UNAVAILABLE,
    /the cache of one request of 1024 tokens takes \d+ bytes/,
  );
});

test('a version that is removed ends its texts first, and takes no more', async (context) => {
  const live = await served(context);
  const request = { text: 'until the end', ignoreEos: true, version: 2n, maxTokens: 400 };
  const expected = await live.generate(request);
  const text = live.generate(request);
  await until(async () => (await running(live)) === 1);
  await rm(join(live.repository.directory, 'lm', '2'), { recursive: true });
  await until(async () => {
    const { versions } = await live.serving.listVersions({ model: 'lm' });
    return versions.length === 1;
  });
  await refused(live.generate(request), Status.NOT_FOUND, /version 2 of lm: not in the repository/);
  assert.equal((await text).text, expected.text);
});

test('a folder that is broken is unavailable with the reason, and the others are served', async (context) => {
  const live = await served(context);
  const state = async (model: string) =>
    (await live.serving.listVersions({ model })).versions.find(({ version }) => version === 1n);
  const broken = async (model: string, spoil: (directory: string) => Promise<void>, reason: RegExp) => {
    const { directory } = await publishTextModel(live.repository, model);
    await until(async () => (await state(model).catch(() => undefined))?.state === VersionState.VERSION_STATE_READY);
    await spoil(directory);
    await until(
      async () => (await state(model).catch(() => undefined))?.state === VersionState.VERSION_STATE_UNAVAILABLE,
    );
    assert.match((await state(model))!.reason, reason);
    await refused(live.generate({ model, text: 'x' }), Status.UNAVAILABLE, reason);
  };
  /** A change that the repository's look takes for a new version. */
  const rewrite = async (directory: string, change: (manifest: ReturnType<typeof textManifest>) => object) => {
    const file = join(directory, 'heartwood.json');
    const manifest = JSON.parse(await readFile(file, 'utf8')) as ReturnType<typeof textManifest>;
    // At once, or the look finds half of it.
    const written = join(directory, '..', '.rewritten');
    await writeFile(written, JSON.stringify(change(manifest)));
    await rename(written, file);
  };
  await broken(
    'tampered',
    async (directory) => {
      await appendFile(join(directory, 'tokenizer.json'), ' ');
      await rewrite(directory, (manifest) => ({ ...manifest, createdAt: new Date(0).toISOString() }));
    },
    /tokenizer\.json: expected SHA-256/,
  );
  await broken(
    'shapes',
    (directory) =>
      rewrite(directory, (manifest) => {
        const [first, ...rest] = manifest.text.caches;
        return { ...manifest, text: { ...manifest.text, caches: [{ ...first!, heads: 1 }, ...rest] } };
      }),
    /heartwood\.json: text\.caches\[0\] has 1 heads of 16, but model\.onnx has past\.0\.key/,
  );
  await broken(
    'words',
    (directory) => rewrite(directory, (manifest) => ({ ...manifest, text: { ...manifest.text, vocabulary: 300 } })),
    /text\.vocabulary is 300, but model\.onnx has logits of 257/,
  );
  await broken(
    'nameless',
    (directory) => rewrite(directory, ({ text: _text, ...manifest }) => manifest),
    /heartwood\.json: text: /,
  );
  assert.equal((await live.generate({ text: 'x', maxTokens: 2, ignoreEos: true })).ids.length, 2);
});

test('what generation_config.json says holds where a request says nothing', async (context) => {
  const live = await served(context);
  const plain = await live.generate({ text: 'defaults', version: 1n, maxTokens: 12, ignoreEos: true });
  // The same weights, but any token that the greedy text draws first ends it; and one with chance.
  await publishTextModel(live.repository, 'ending', {}, { eos_token_id: [0, plain.ids[0]!] });
  await publishTextModel(live.repository, 'chance', {}, { do_sample: true, temperature: 1.5, max_new_tokens: 7 });
  const ready = async (model: string) =>
    (await live.serving.listVersions({ model }).catch(() => undefined))?.versions[0]?.state ===
    VersionState.VERSION_STATE_READY;
  await until(async () => (await ready('ending')) && (await ready('chance')));
  const ended = await live.generate({ model: 'ending', text: 'defaults' });
  assert.deepEqual([ended.text, ended.end.finishReason], ['', FinishReason.FINISH_REASON_EOS]);
  assert.equal(ended.end.completionTokens, 1);
  const drawn = await Promise.all([1n, 2n].map((seed) => live.generate({ model: 'chance', text: 'defaults', seed })));
  assert.notDeepEqual(drawn[0]!.ids, drawn[1]!.ids);
  assert.equal(drawn[0]!.ids.length, 7);
  const greedy = { model: 'chance', text: 'defaults', temperature: 0, topK: 0, maxTokens: 12, ignoreEos: true };
  assert.deepEqual((await live.generate(greedy)).ids, plain.ids);

  const { versions } = await live.serving.listVersions({ model: 'lm' });
  assert.deepEqual(versions[1]!.facts?.text, { context: textContext, vocabulary: 257, heads: [1, 2], bits: 0 });
  assert.equal(versions[1]!.facts?.task, 'text-generation');
});

test('the joules of texts and of nobody are what the meter counts', async (context) => {
  const board = agxOrin(6);
  const { extra } = await moving(board, context);
  const live = await served(context, { energyRoot: board.root, energySampleHz: 50 });
  const sumOf = async (name: string, labels = '') => {
    const lines = (await live.metrics())
      .split('\n')
      .filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
    return lines.filter((line) => line.includes(labels)).reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
  };
  await until(async () => (await sumOf('heartwood_energy_joules_total', 'rail="total"')) > 2 * 23);
  extra(40);
  // Where this machine is so busy that the meter is late, a text has no joules rather than guessed ones.
  const round = () =>
    Promise.all(
      Array.from({ length: 6 }, (_, i) =>
        live.generate({
          text: `text ${i}`,
          ignoreEos: true,
          maxTokens: 300,
          energy: true,
          version: BigInt(1 + (i % 2)),
        }),
      ),
    );
  const [counted, ofRequests, ofSteps] = [
    'heartwood_inference_energy_joules_count',
    'heartwood_inference_energy_joules_sum',
    'heartwood_generation_energy_joules_total',
  ] as const;
  const told = () => Promise.all([sumOf(counted), sumOf(ofRequests), sumOf(ofSteps)]);
  let before = await told();
  for (let texts = await round(); !texts.every(({ end }) => end.joules! > 0); texts = await round())
    before = await told();
  extra(0);
  await until(async () => (await sumOf(counted)) >= before[0] + 6);
  const after = await told();
  const [requests, steps] = [after[1] - before[1], after[2] - before[2]];
  assert.ok(Math.abs(steps - requests) <= 0.01 * requests, `${steps} of steps, ${requests} of requests`);
  // Both are read while the meter goes on: what it counted between the two is nobody's yet. What steps took of a text that has no joules itself
  // is known all the same.
  await until(async () => {
    const nobody = await sumOf('heartwood_energy_unattributed_joules_total');
    const total = await sumOf('heartwood_energy_joules_total', 'rail="total"');
    return Math.abs(after[2] + nobody - total) <= 0.01 * total;
  });
});
