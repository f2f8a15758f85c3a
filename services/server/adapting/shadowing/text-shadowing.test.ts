import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { pino } from 'pino';
import type { ManifestDraft } from '../../../../libs/store/publish.js';
import { createRuntime } from '../../../../libs/runtime/runtime.js';
import { createRegistry } from '../../../../libs/telemetry/metrics.js';
import type {
  CompareRequest,
  DeepPartial,
  GenerateRequest,
} from '../../../../proto/gen/heartwood/serving/v1/serving.js';
import type { ModelInferRequest } from '../../../../proto/gen/open_inference_grpc.js';
import { Catalog } from '../../catalog/catalog.js';
import { asLanguageModel, loadVersion } from '../../catalog/served-version.js';
import { droppingAt } from '../../generation/testing/dropping-stages.js';
import { manifestBudget } from '../../inference/budget.js';
import { Generation } from '../../inference/generation.js';
import { settingsOf } from '../../options.js';
import { joinBytes } from '../../open-inference/tensor-codec.js';
import { until } from '../../testing/live-server.js';
import { temporaryRepository } from '../../testing/temporary-repository.js';
import { publishTextModel, type TextServer, textServer } from '../../testing/text-server.js';
import { Shadowing } from './shadowing.js';

const method = (lossBudget: number) =>
  ({
    ...{ policy: 'curvature', loss: 'kl', lossBudget, flopsSaved: null, units: ['heads'], seed: 0 },
  }) satisfies ManifestDraft['method'];

/** Of `lm`: the unpruned one, without a method; other weights; version 1's own weights; those, with stages that drop prompt tokens. */
const [OTHER, BREAKING, SAME, STAGED] = [2, 3, 4, 5] as const;
const blocks = [
  { heads: 1, neurons: 40 },
  { heads: 2, neurons: 9 },
];

describe('a server that shadows every text', () => {
  let live: TextServer;
  before(async () => {
    live = await textServer({ shadow: 1 });
    const publish = async (expected: number, ...[shape, extra]: [object, Parameters<typeof publishTextModel>[4]]) => {
      const { version } = await publishTextModel(live.repository, 'lm', shape, {}, extra);
      assert.equal(version, expected);
    };
    await publish(BREAKING, { seed: 2, blocks }, { manifest: { parent: 1, method: method(1e-4) } });
    await publish(SAME, {}, { manifest: { parent: 1, method: method(1e-4) } });
    const dropping = droppingAt(32, [1]);
    await publish(STAGED, {}, { dropping, manifest: { parent: 1, method: method(1e-4) } });
    for (const version of [BREAKING, SAME, STAGED])
      await until(() => live.client.modelReady('lm', version).catch(() => false));
  });
  after(() => live.stop());

  const of = (version: number) => `{model="lm",version="${version}"}`;
  const picked = (version: number, outcome = 'compared') =>
    live.metric(`heartwood_shadow_requests_total{model="lm",version="${version}",outcome="${outcome}"}`);
  const shadow = (name: string, version: number) => live.metric(`heartwood_shadow_${name}${of(version)}`);

  /** A text, and then until it has been compared. */
  async function compared<T>(version: number, text: () => Promise<T>): Promise<T> {
    const earlier = await picked(version);
    const answer = await text();
    await until(async () => (await picked(version)) === earlier + 1);
    return answer;
  }
  const generate = (version: number, request: DeepPartial<GenerateRequest> = {}) =>
    compared(version, () =>
      live.generate({ version: BigInt(version), text: 'The heart of', maxTokens: 6, ignoreEos: true, ...request }),
    );

  const triton: DeepPartial<ModelInferRequest> = {
    modelName: 'lm',
    modelVersion: String(OTHER),
    inputs: ['text_input', 'sampling_parameters'].map((name) => ({ name, datatype: 'BYTES', shape: [1n] })),
    rawInputContents: ['Once upon', JSON.stringify({ max_tokens: 5, ignore_eos: true })].map((text) =>
      joinBytes([Buffer.from(text)]),
    ),
  };

  test('texts are compared token by token, whichever way they came', async () => {
    const prompt = [...Buffer.from('Of this prompt')];
    const { ids } = await generate(OTHER, { text: undefined, tokens: { ids: prompt }, maxTokens: 8 });
    assert.equal(await shadow('kl_nats_count', OTHER), 8);
    assert.ok((await shadow('kl_nats_sum', OTHER)) > 0);
    assert.equal(await shadow('latency_ratio_count', OTHER), 1);
    // Where version 1 would go on with the same token, behind the same ones, they agree.
    let agreements = 0;
    for (const [at, id] of ids.entries()) {
      const before = { ids: [...prompt, ...ids.slice(0, at)] };
      const first = await live.generate({ version: 1n, tokens: before, maxTokens: 1, ignoreEos: true });
      if (first.ids[0] === id) agreements++;
    }
    assert.equal(await shadow('agreements_total', OTHER), agreements);
    await compared(OTHER, () => live.raw.modelInfer(triton));
    assert.equal(await shadow('kl_nats_count', OTHER), 13);
    await compared(OTHER, async () => {
      async function* requests() {
        yield await Promise.resolve(triton);
      }
      for await (const { errorMessage } of live.raw.modelStreamInfer(requests())) assert.equal(errorMessage, '');
    });
    assert.equal(await shadow('kl_nats_count', OTHER), 18);
    assert.doesNotMatch(await live.metrics(), /heartwood_shadow_requests_total\{model="lm",version="1"/);
    // What it promised is not known.
    assert.doesNotMatch(await live.metrics(), /heartwood_shadow_budget_broken\{model="lm",version="2"/);
  });

  test('of a prompt that was cut, echoed or told the log-probabilities of only what was generated counts', async () => {
    const earlier = await shadow('kl_nats_count', SAME);
    await generate(SAME, { text: 'x'.repeat(2000), truncate: true, maxTokens: 5, echo: true, logprobs: 2 });
    assert.equal(await shadow('kl_nats_count', SAME), earlier + 5);
    assert.equal(await shadow('agreements_total', SAME), earlier + 5);
    assert.ok((await shadow('kl_nats_sum', SAME)) < 1e-4);
  });

  test('the gauge says when live texts break what a version promised, and of one that keeps it that it does', async () => {
    for (let text = 0; text < 20; text++) {
      if (text === 19) assert.equal(await shadow('budget_broken', BREAKING), 0, 'nineteen texts say nothing yet');
      await generate(BREAKING, { text: `text ${text}`, temperature: 1, seed: BigInt(text) });
      await generate(SAME, { text: `text ${text}`, temperature: 1, seed: BigInt(text) });
    }
    assert.equal(await shadow('budget_broken', BREAKING), 1);
    assert.equal(await shadow('promised_loss_nats', BREAKING), 1e-4);
    const bound = await shadow('kl_lower_bound_nats', BREAKING);
    const mean = (await shadow('kl_nats_sum', BREAKING)) / (await shadow('kl_nats_count', BREAKING));
    assert.ok(bound > 1e-4 && bound < mean, `${bound} of ${mean}`);
    assert.equal(await shadow('budget_broken', SAME), 0);
  });

  test('version 1 reads at no budget, the version at the one that was in force; what a request spends beyond the default is its own', async () => {
    const text = 'Of this prompt some tokens are dropped, if they may be.';
    const { end } = await generate(STAGED, { text });
    assert.deepEqual(end.tokensKept, [text.length]);
    assert.ok((await shadow('kl_nats_sum', STAGED)) < 1e-4);
    for (let sent = 0; sent < 21; sent++) {
      const { end } = await generate(STAGED, { text, budget: 1 });
      assert.ok(end.tokensKept[0]! < text.length);
    }
    assert.ok((await shadow('kl_nats_sum', STAGED)) > 1e-4);
    assert.equal(await shadow('kl_nats_count', STAGED), 22 * 6);
    assert.doesNotMatch(await live.metrics(), /kl_lower_bound_nats\{model="lm",version="5"\}/);
    assert.equal(await shadow('budget_broken', STAGED), 0);
  });

  test('what a comparison generates is no live text', async () => {
    const earlier = await picked(OTHER);
    const asked: DeepPartial<CompareRequest>[] = [
      { settings: { model: 'lm', versions: [1n, 2n], maxTokens: 4, promptTokens: 8, warmup: 1 } },
      ...['the first of the texts', 'and the second one'].map((text) => ({ sample: { text, name: 'a text' } })),
    ];
    async function* requests() {
      for (const request of asked) yield await Promise.resolve(request);
    }
    let results = 0;
    for await (const { result } of live.serving.compare(requests())) if (result) results++;
    assert.equal(results, 1);
    // Were one of them picked it would come before this one.
    await generate(OTHER);
    assert.equal(await picked(OTHER), earlier + 1);
    assert.equal(await picked(OTHER, 'dropped'), 0);
  });

  test('what there is nothing to compare with', async () => {
    // Another vocabulary: its tokens are none of version 1's.
    const { version } = await publishTextModel(live.repository, 'lm', { vocabulary: 300 });
    await until(() => live.client.modelReady('lm', version).catch(() => false));
    await live.generate({ version: BigInt(version), text: 'x', maxTokens: 2, ignoreEos: true });
    await until(async () => (await picked(version, 'incomparable')) === 1);
    await live.repository.remove('lm', 1, { force: true });
    await until(async () => !(await live.client.modelReady('lm', 1)));
    await live.generate({ version: 2n, text: 'x', maxTokens: 2, ignoreEos: true });
    await until(async () => (await picked(OTHER, 'unavailable')) === 1);
  });
});

test('live texts come first: no run of a comparison begins beside one, what finds the queue full is dropped, and the log tells nothing of a text', async () => {
  const { repository, remove } = await temporaryRepository();
  await publishTextModel(repository, 'lm');
  for (const seed of [2, 3]) await publishTextModel(repository, 'lm', { seed });
  const runtime = createRuntime({ workers: 1, threads: 1 });
  const lines: string[] = [];
  const log = pino({ level: 'trace' }, { write: (line: string) => void lines.push(line) });
  const registry = createRegistry();
  const shadowing = new Shadowing({ share: 1 }, registry, log);
  /** Texts under way, and the most that were when a run of a comparison began. */
  let [texts, beside, runs] = [0, 0, 0];
  const nothing = (): void | Promise<void> => undefined;
  let onRun = nothing;
  const settings = {
    ...settingsOf({ repository: repository.directory, prefillChunk: 8 }),
    instances: 1,
    warmUpSizes: [],
  };
  const catalog = new Catalog(
    repository,
    async (entry, signal) => {
      const served = asLanguageModel(await loadVersion(repository, runtime, entry, settings, signal));
      const { forcing } = served;
      const logits = forcing.logits.bind(forcing);
      forcing.logits = (text, stop, each = (run) => run()) =>
        logits(text, stop, (run) =>
          each(async () => {
            runs++;
            beside = Math.max(beside, texts);
            await onRun();
            return run();
          }),
        );
      return served;
    },
    shadowing,
    log,
  );
  await catalog.sync();
  const defect = (error: unknown) => assert.fail(String(error));
  const generation = new Generation(catalog, manifestBudget, [shadowing], defect, undefined, shadowing);
  const { signal } = new AbortController();
  const secret = 'Nobody but its reader may ever learn of this.';
  async function text({ version = '2', until = Promise.resolve() } = {}): Promise<void> {
    texts++;
    const contents = () => ({ prompt: secret, sampling: {}, maxTokens: 40, ignoreEos: true });
    const call = { model: 'lm', version, contents };
    for await (const event of generation.generate(call, signal, ({ events }) => events)) {
      if (event.kind !== 'end') continue;
      await until;
      texts--;
    }
  }
  const count = async (outcome: string): Promise<number> => {
    const line = `heartwood_shadow_requests_total{model="lm",version="2",outcome="${outcome}"} `;
    return Number((await registry.metrics()).split(line)[1]?.split('\n')[0] ?? 0);
  };

  // One is not read to its end: while it is under way nothing runs for those that have ended.
  let read = (): void => undefined;
  const held = text({ until: new Promise((resolve) => (read = resolve)) });
  await Promise.all(Array.from({ length: 11 }, () => text()));
  assert.deepEqual([runs, await count('dropped'), await count('compared')], [0, 3, 0]);
  read();
  await held;
  await until(async () => (await count('compared')) === 8);
  assert.deepEqual([beside, await count('dropped')], [0, 4]);

  // One that comes in the middle of a comparison waits for the run that is under way, and the rest of the comparison for it.
  const ofOne = runs / 8;
  assert.ok(ofOne > 4, `${ofOne} runs`);
  let came: Promise<void> | undefined;
  let begun = 0;
  onRun = () => {
    if (++begun === 2) came = text();
  };
  await text();
  await until(async () => (await count('compared')) === 10);
  await came;
  assert.equal(beside, 0);

  // A version may go in the middle of a comparison, which holds nothing up; it is only not told.
  onRun = async () => {
    onRun = nothing;
    await repository.remove('lm', 2);
    await catalog.sync();
  };
  await text();
  await until(async () => (await count('unavailable')) === 1);
  assert.match(lines.join(''), /could not be sent to version 1 too/);

  // So may the server.
  const stopped = new Promise<void>((resolve) => {
    onRun = () => {
      shadowing.stop();
      resolve();
    };
  });
  await text({ version: '3' });
  await stopped;
  await catalog.stop();
  await runtime.close();
  assert.doesNotMatch(lines.join(''), /Nobody/);
  await remove();
});
