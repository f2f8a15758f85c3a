import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Status } from 'nice-grpc';
import type {
  CompareRequest,
  CompareResult,
  CompareSettings,
  DeepPartial,
} from '../../../proto/gen/heartwood/serving/v1/serving.js';
import { refused, until } from '../testing/live-server.js';
import { type TextServer, textServer } from '../testing/text-server.js';

let live: TextServer;
before(async () => {
  live = await textServer({ compareMaxSamples: 8, compareMaxBytes: 20_000 });
});
after(() => live.stop());

async function compare(requests: readonly DeepPartial<CompareRequest>[], signal?: AbortSignal): Promise<CompareResult> {
  async function* stream() {
    for (const request of requests) yield await Promise.resolve(request);
  }
  let result: CompareResult | undefined;
  for await (const response of live.serving.compare(stream(), signal ? { signal } : {}))
    result = response.result ?? result;
  assert.ok(result, 'a comparison ends with its result');
  return result;
}

const settings = (extra: DeepPartial<CompareSettings> = {}): DeepPartial<CompareRequest> => ({
  settings: { model: 'lm', maxTokens: 6, promptTokens: 10, warmup: 1, ...extra },
});
const text = (content: string): DeepPartial<CompareRequest> => ({ sample: { text: content, name: 'a text' } });
const texts = Array.from({ length: 4 }, (_, i) => text(`the beginning of text number ${i}`));

test('versions go on with the same prompts, and a version agrees with itself', async () => {
  const { versions, samples } = await compare([settings({ versions: [2n, 1n] }), ...texts]);
  assert.equal(samples, 4n);
  assert.deepEqual(
    versions.map(({ version, text }) => [version, text?.tokens, text?.sameBeginning === 1]),
    [
      [2n, 6, true],
      [1n, 6, false],
    ],
  );
  // The six tokens behind each prompt, in the text itself.
  const [own1, other] = versions;
  assert.deepEqual([own1!.agreement, own1!.kl, own1!.text!.predictions], [1, 0, 24n]);
  assert.ok(other!.kl! > 0 && other!.agreement! < 1);
  const mean6 = other!.text!.klByPosition.reduce((sum, kl) => sum + kl, 0) / 6;
  assert.ok(Math.abs(mean6 / other!.kl! - 1) < 1e-9);
  const told = other!.differences.find(({ measure }) => measure === 'kl')!;
  assert.ok(told.low! <= told.value && told.value <= told.high!);
  // Its texts are those that Generate gives for the same beginnings.
  const own = await Promise.all(
    texts.map(({ sample }) => {
      const asked = { text: sample!.text!.slice(0, 10), maxTokens: 6, ignoreEos: true };
      return Promise.all([2n, 1n].map((version) => live.generate({ ...asked, version })));
    }),
  );
  const shares = own.map(([second, first]) => {
    const parted = first!.ids.findIndex((id, at) => id !== second!.ids[at]);
    return parted < 0 ? 1 : parted / 6;
  });
  const mean = shares.reduce((sum, share) => sum + share, 0) / shares.length;
  assert.ok(Math.abs(versions[1]!.text!.sameBeginning - mean) < 1e-12);
});

test('what does not fit is told by the setting or the sample', async () => {
  const bad = (requests: readonly DeepPartial<CompareRequest>[], details: RegExp, code = Status.INVALID_ARGUMENT) =>
    refused(compare(requests), code, details);
  await bad([settings({ batch: 2 }), ...texts], /batch: 2, expected 1 of a language model/);
  await bad([settings()], /no samples, expected at least one/);
  await bad([settings(), { sample: { pixels: Buffer.alloc(4) } }], /sample 0: expected a text/);
  await bad([settings({ maxTokens: 5000 }), ...texts], /context of 1024 tokens/);
  await bad([settings({ budget: -1 }), ...texts], /budget: expected/);
  await bad([settings({ concurrency: 9 }), ...texts], /concurrency: 9 is more than the 4 requests/);
  await bad([settings({ model: 'net' }), ...texts], /either an image or pixels/);
  const many = Array.from({ length: 9 }, () => text('x'));
  await bad([settings(), ...many], /more than the 8 samples/, Status.RESOURCE_EXHAUSTED);
  await bad([settings(), text('x'.repeat(12_000))], /20000 bytes that comparisons may hold/, Status.RESOURCE_EXHAUSTED);
  // What was refused holds nothing: as much fits as before.
  assert.equal((await compare([settings(), text('y'.repeat(9000))])).samples, 1n);
});

test('a comparison that is cancelled leaves no text behind', async () => {
  const controller = new AbortController();
  const running = () => live.metric('heartwood_model_running_requests{model="lm",version="2"}');
  const work = compare([settings({ versions: [2n], maxTokens: 900 }), ...texts], controller.signal);
  const ended = assert.rejects(work, { name: 'AbortError' });
  await until(async () => (await running()) === 1);
  controller.abort();
  await ended;
  await until(async () => (await running()) === 0);
});
