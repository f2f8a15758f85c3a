import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Status } from 'nice-grpc';
import sharp from 'sharp';
import type { DeepPartial, ModelInferRequest } from '../../proto/gen/open_inference_grpc.js';
import { joinBytes } from './open-inference/tensor-codec.js';
import { liveServer, type LiveServer, pixels, rawRequest, refused } from './testing/live-server.js';

let live: LiveServer;
before(async () => {
  live = await liveServer();
});
after(() => live.stop());

test('bad requests: a code and a line that names the field', async () => {
  const { dims, data } = pixels(1);
  const shape = dims.map(BigInt);
  const bytes = Buffer.from(data.buffer);
  const input = { name: 'pixel_values', datatype: 'FP32', shape };
  const bad = (extra: DeepPartial<ModelInferRequest>, details: RegExp, code = Status.INVALID_ARGUMENT) =>
    refused(
      live.raw.modelInfer({ modelName: 'net', inputs: [input], rawInputContents: [bytes], ...extra }),
      code,
      details,
    );

  await bad({ modelName: 'absent' }, /model absent: not in the repository/, Status.NOT_FOUND);
  await bad({ modelVersion: '77' }, /version 77 of net: not in the repository/, Status.NOT_FOUND);
  for (const modelName of ['', '..', '../net', 'a/b', 'net/../net', '/etc/passwd', 'a\0b', 'x'.repeat(200)]) {
    await bad({ modelName }, /model_name: expected/);
  }
  for (const modelVersion of ['..', '1/../2', '0', '-1', '1.5', 'latest', '01'])
    await bad({ modelVersion }, /model_version: expected/);

  await bad({ inputs: [], rawInputContents: [] }, /one of the inputs pixel_values and image is missing/);
  await bad({ rawInputContents: [] }, /input pixel_values: 0 elements/);
  await bad(
    { rawInputContents: [bytes, bytes] },
    /raw_input_contents: 2 of them, expected one for each of the 1 inputs/,
  );
  await bad(
    { rawInputContents: [bytes.subarray(4)] },
    /input pixel_values: 764 bytes of raw_input_contents, expected 768/,
  );
  await bad({ inputs: [{ ...input, contents: { fp32Contents: [1] } }] }, /contents beside raw_input_contents/);
  await bad({ inputs: [input, input], rawInputContents: [bytes, bytes] }, /input pixel_values: given twice/);
  await bad({ inputs: [{ ...input, name: 'pixels' }] }, /unknown input "pixels", expected pixel_values, budget, image/);
  await bad({ inputs: [{ ...input, datatype: 'FP64' }] }, /768 bytes of raw_input_contents, expected 1536/);
  await bad({ inputs: [{ ...input, datatype: 'INT32' }] }, /input pixel_values has type int32, expected float32/);
  await bad({ inputs: [{ ...input, datatype: 'FP16' }] }, /datatype "FP16", expected one of FP32/);
  await bad(
    { inputs: [{ ...input, shape: [1n, 192n] }] },
    /input pixel_values has shape \[1, 192\], expected \[B, 3, 8, 8\]/,
  );
  await bad({ inputs: [{ ...input, shape: [-1n, 3n, 8n, 8n] }] }, /dimension -1/);
  await bad({ inputs: [{ ...input, shape: [2n ** 62n, 3n, 8n, 8n] }] }, /dimension 4611686018427387904/);
  await bad(
    { inputs: [{ ...input, shape: [0n, 3n, 8n, 8n] }], rawInputContents: [Buffer.alloc(0)] },
    /batch of 0 samples/,
  );
  for (const value of [NaN, Infinity, -Infinity]) {
    const values = data.slice();
    values[5] = value;
    await bad(
      { rawInputContents: [Buffer.from(values.buffer)] },
      new RegExp(`input pixel_values: element 5 is ${value}, expected finite numbers`),
    );
    const typed = { inputs: [{ ...input, contents: { fp32Contents: [...values] } }], rawInputContents: [] };
    await bad(typed, /input pixel_values: element 5 is/);
  }
  await bad({ outputs: [{ name: 'probabilities' }] }, /unknown output "probabilities", expected logits, tokens_kept/);
  await bad({ outputs: [{ name: 'logits' }, { name: 'logits' }] }, /output logits: asked for twice/);
  await refused(live.raw.modelInfer(rawRequest(9)), Status.INVALID_ARGUMENT, /batch of 9 samples, expected 1 to 8/);
  await refused(live.raw.modelMetadata({ name: 'a/..' }), Status.INVALID_ARGUMENT, /model_name/);
  await refused(live.raw.modelReady({ name: '../net' }), Status.INVALID_ARGUMENT, /name: expected/);

  for (const doubleParam of [NaN, Infinity, -0.1, 1e300, 3.5e38]) {
    await bad(
      { parameters: { budget: { doubleParam } } },
      /parameter budget: expected a finite number of nats, 0 or more/,
    );
  }
  await bad({ parameters: { budget: { doubleParam: 1e300 } } }, /within float32, got 1e\+300/);
  await bad({ parameters: { budget: { stringParam: 'much' } } }, /parameter budget: .*got "much"$/);
  await bad({ parameters: { budget: { boolParam: true } } }, /parameter budget: .*got true$/);
  await bad({ parameters: { budget: {} } }, /parameter budget: .*got nothing$/);
  await bad({ modelVersion: '1', parameters: { budget: { doubleParam: -1 } } }, /parameter budget/);
  const withBudget = (values: number[], budgetShape: bigint[]) => ({
    inputs: [input, { name: 'budget', datatype: 'FP32', shape: budgetShape }],
    rawInputContents: [bytes, Buffer.from(Float32Array.from(values).buffer)],
  });
  await bad(withBudget([NaN], [1n, 1n]), /input budget: expected a finite number/);
  await bad(withBudget([-1], [1n, 1n]), /input budget: expected a finite number/);
  await bad(withBudget([1], [1n]), /input budget: shape \[1\], expected \[1, 1\]/);
  await bad(withBudget([1, 1], [2n, 1n]), /input budget: shape \[2, 1\], expected \[1, 1\]/);
  await bad(
    { modelVersion: '1', ...withBudget([1], [1n, 1n]) },
    /unknown input "budget", expected pixel_values, image/,
  );

  const image = (file: Uint8Array, extra = {}) => ({
    inputs: [{ name: 'image', datatype: 'BYTES', shape: [1n, 1n], ...extra }],
    rawInputContents: [joinBytes([file])],
  });
  await bad(image(Buffer.from('no image')), /image 0 of the request is not an image/);
  await bad(image(Buffer.alloc(0)), /image 0 of the request/);
  await bad(image(Buffer.from('x'), { shape: [1n] }), /input image: shape \[1\], expected \[batch, 1\]/);
  await bad(
    { ...image(Buffer.from('x')), rawInputContents: [Buffer.from([255, 255, 255, 255, 1])] },
    /not 1 elements, each behind its length/,
  );
  await bad(
    { inputs: [input, ...image(bytes).inputs], rawInputContents: [bytes, joinBytes([bytes])] },
    /expected one of them, not both/,
  );

  const flat = { create: { width: 6000, height: 5000, channels: 3, background: 'red' } } as const;
  const large = await sharp(flat).png().toBuffer();
  await bad(
    {
      inputs: [{ name: 'image', datatype: 'BYTES', shape: [7n, 1n] }],
      rawInputContents: [joinBytes(Array.from({ length: 7 }, () => large))],
    },
    /input image: 210\.0 megapixels over the 7 images of the request, expected at most 200/,
  );
  await bad(image(Buffer.from('<svg xmlns="http://www.w3.org/2000/svg"/>')), /image 0 of the request is not an image/);

  // Nothing of that has harmed the server.
  const { outputs } = await live.client.infer({ model: 'net', version: 1, pixels: pixels(1) });
  assert.deepEqual(outputs['logits']?.data, Float32Array.of(0, 1, 2));
});

test('a message beyond the limit is refused before it is read', async () => {
  const small = await liveServer({ maxMessageBytes: 10_000 });
  try {
    await refused(
      small.raw.modelInfer({ modelName: 'x'.repeat(20_000) }),
      Status.RESOURCE_EXHAUSTED,
      /larger than max/,
    );
    assert.deepEqual(await small.raw.serverLive({}), { live: true });
  } finally {
    await small.stop();
  }
});
