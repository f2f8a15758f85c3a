import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Status } from 'nice-grpc';
import { DataType, ModelInstanceGroup_Kind } from '../../../proto/gen/open_inference_config.js';
import type {
  DeepPartial,
  InferParameter,
  ModelInferRequest,
  ModelInferResponse,
} from '../../../proto/gen/open_inference_grpc.js';
import { rawRequest, refused, until } from '../testing/live-server.js';
import { textContext, type TextServer, textServer } from '../testing/text-server.js';
import { decodeInput, joinBytes } from './tensor-codec.js';

let live: TextServer;
before(async () => {
  live = await textServer();
});
after(() => live.stop());

type Value = string | boolean | number | Uint8Array;

/** A request as Triton's clients send it to an LLM backend: each input of one element, raw. */
function request(
  inputs: Readonly<Record<string, Value>>,
  extra: DeepPartial<ModelInferRequest> = {},
): DeepPartial<ModelInferRequest> {
  const tensors = Object.entries(inputs).map(([name, value]) => {
    if (typeof value === 'boolean') return { name, datatype: 'BOOL', raw: Buffer.of(value ? 1 : 0) };
    if (typeof value === 'number') return { name, datatype: 'FP32', raw: Buffer.from(Float32Array.of(value).buffer) };
    return { name, datatype: 'BYTES', raw: joinBytes([Buffer.from(value as string)]) };
  });
  return {
    modelName: 'lm',
    inputs: tensors.map(({ name, datatype }) => ({ name, datatype, shape: [1n] })),
    rawInputContents: tensors.map(({ raw }) => raw),
    ...extra,
  };
}

function outputOf(response: ModelInferResponse, name: string): Value | undefined {
  const at = response.outputs.findIndex((output) => output.name === name);
  if (at < 0) return undefined;
  const [output, raw] = [response.outputs[at]!, response.rawOutputContents[at]!];
  assert.deepEqual(output.shape, [1n]);
  if (output.datatype === 'UINT32') return Buffer.from(raw).readUInt32LE(0);
  const { data } = decodeInput(output, raw);
  return output.datatype === 'BYTES' ? Buffer.from(data[0] as Uint8Array).toString() : (data[0] as number);
}

const sampling = (parameters: object) => JSON.stringify({ max_tokens: 12, ignore_eos: true, ...parameters });
const usual = { text_input: 'Once upon', sampling_parameters: sampling({}) };

async function* requestsOf(requests: readonly DeepPartial<ModelInferRequest>[]) {
  for (const each of requests) yield await Promise.resolve(each);
}

interface Answer {
  readonly id: string;
  readonly error: string;
  readonly text: string | undefined;
  readonly last: boolean | undefined;
  readonly response: ModelInferResponse;
}

async function stream(requests: readonly DeepPartial<ModelInferRequest>[]): Promise<Answer[]> {
  const answers: Answer[] = [];
  for await (const { errorMessage, inferResponse } of live.raw.modelStreamInfer(requestsOf(requests))) {
    const response = inferResponse!;
    const last = response.parameters['triton_final_response']?.boolParam;
    answers.push({
      id: response.id,
      error: errorMessage,
      text: outputOf(response, 'text_output') as string | undefined,
      last,
      response,
    });
  }
  return answers;
}

const textOf = (answers: readonly Answer[]): string => answers.map(({ text = '' }) => text).join('');

test('ModelInfer answers once, the prompt before the text unless it is excluded', async () => {
  const whole = await live.raw.modelInfer(request(usual, { id: 'a' }));
  assert.deepEqual([whole.id, whole.modelName, whole.modelVersion], ['a', 'lm', '2']);
  assert.deepEqual(whole.parameters, {});
  const text = outputOf(whole, 'text_output') as string;
  assert.ok(text.startsWith('Once upon') && text.length > 'Once upon'.length);
  const excluded = await live.raw.modelInfer(request({ ...usual, exclude_input_in_output: true }));
  assert.equal(`Once upon${outputOf(excluded, 'text_output') as string}`, text);
  const plain = await live.generate({ text: 'Once upon', maxTokens: 12, ignoreEos: true });
  assert.equal(outputOf(excluded, 'text_output'), plain.text);

  // Parameters of the request say the same, and a batch dimension of one is what other backends have.
  const parameters: Record<string, Partial<InferParameter>> = {
    max_tokens: { int64Param: 12n },
    ignore_eos: { boolParam: true },
    temperature: { stringParam: '0' },
    'a client’s own': { stringParam: 'x' },
  };
  const asParameters = request({ text_input: 'Once upon' }, { parameters });
  asParameters.inputs = [{ ...asParameters.inputs![0], shape: [1n, 1n] }];
  assert.equal(outputOf(await live.raw.modelInfer(asParameters), 'text_output'), text);

  // As for vLLM, who does not say how many gets 16.
  const short = await live.raw.modelInfer(request({ text_input: 'x', return_num_output_tokens: true }));
  assert.ok((outputOf(short, 'num_output_tokens') as number) <= 16);
});

test('what the return inputs ask for comes beside the text', async () => {
  const asked = {
    ...usual,
    sampling_parameters: sampling({ logprobs: 2, temperature: '0.9', seed: 5, top_k: -1 }),
    return_finish_reason: true,
    return_cumulative_logprob: true,
    return_logprobs: true,
    return_num_input_tokens: true,
    return_num_output_tokens: true,
    exclude_input_in_output: true,
  };
  const whole = await live.raw.modelInfer(request(asked));
  assert.deepEqual(
    whole.outputs.map(({ name, datatype }) => [name, datatype]),
    [
      ['text_output', 'BYTES'],
      ['finish_reason', 'BYTES'],
      ['cumulative_logprob', 'FP32'],
      ['logprobs', 'BYTES'],
      ['num_input_tokens', 'UINT32'],
      ['num_output_tokens', 'UINT32'],
    ],
  );
  assert.equal(outputOf(whole, 'finish_reason'), 'length');
  assert.deepEqual([outputOf(whole, 'num_input_tokens'), outputOf(whole, 'num_output_tokens')], [9, 12]);
  type Entry = { logprob: number; rank: number | null; decoded_token: string };
  const logprobs = JSON.parse(outputOf(whole, 'logprobs') as string) as Record<string, Entry>[];
  const { pieces } = await live.generate({
    ...{ text: 'Once upon', maxTokens: 12, ignoreEos: true, logprobs: 2, temperature: 0.9, seed: 5n, topK: 0 },
  });
  const tokens = pieces.flatMap((piece) => piece.tokens);
  assert.equal(logprobs.length, 12);
  for (const [at, { id, logprob }] of tokens.entries()) {
    assert.ok(Math.abs(logprobs[at]![id]!.logprob - logprob!) < 1e-6);
    assert.ok(Object.values(logprobs[at]!).some(({ rank }) => rank === 1));
  }
  const sum = tokens.reduce((total, { logprob }) => total + logprob!, 0);
  assert.ok(Math.abs((outputOf(whole, 'cumulative_logprob') as number) - sum) < 1e-4);

  const streamed = await stream([request({ ...asked, stream: true })]);
  assert.equal(textOf(streamed), outputOf(whole, 'text_output'));
  const counts = streamed.map(({ response }) => outputOf(response, 'num_output_tokens') as number);
  assert.equal(
    counts.reduce((total, count) => total + count),
    12,
  );
  assert.deepEqual(
    new Set(streamed.slice(0, -1).map(({ response }) => outputOf(response, 'finish_reason'))),
    new Set(['None']),
  );
  assert.equal(outputOf(streamed.at(-1)!.response, 'finish_reason'), 'length');
});

test('a stream has many answers to a request, the last one marked; an empty one where that is asked for', async () => {
  const streamed = await stream([request({ ...usual, stream: true }, { id: 'streamed' })]);
  assert.ok(streamed.length > 2);
  assert.deepEqual(
    streamed.map(({ last }) => last),
    [...streamed.slice(1).map(() => false), true],
  );
  const parameters = { triton_enable_empty_final_response: { boolParam: true } };
  const emptied = await stream([request({ ...usual, stream: true }, { parameters })]);
  assert.equal(textOf(emptied), textOf(streamed));
  assert.deepEqual([emptied.at(-1)!.last, emptied.at(-1)!.response.outputs], [true, []]);
  assert.ok(emptied.slice(0, -1).every(({ last, text }) => last === false && text !== ''));
  const [once, ...others] = await stream([request(usual, { parameters })]);
  assert.deepEqual([once!.last, others], [true, []]);
  assert.equal(once!.text, `Once upon${textOf(streamed)}`);
});

test('texts of one stream are generated side by side, and frames of a classifier between them', async () => {
  const long = { ...usual, stream: true, sampling_parameters: sampling({ max_tokens: 200 }) };
  const answers = await stream([
    request(long, { id: 'one' }),
    rawRequest(1, { id: 'image', modelVersion: '1' }),
    request(long, { id: 'two' }),
    request({ ...usual, stream: true, sampling_parameters: '{"temperature": "hot"}' }, { id: 'bad' }),
    request({ text_input: 'x' }, { id: 'absent', modelName: 'absent' }),
    request(usual, { id: 'whole' }),
  ]);
  const of = (id: string) => answers.filter((answer) => answer.id === id);
  assert.deepEqual(
    answers
      .filter(({ error }) => error !== '')
      .map(({ id, last }) => [id, last])
      .sort(),
    [
      ['absent', true],
      ['bad', true],
    ],
  );
  assert.match(of('bad')[0]!.error, /input sampling_parameters: temperature: expected a number/);
  assert.match(of('absent')[0]!.error, /model absent: not in the repository/);
  assert.equal(of('image')[0]!.response.outputs[0]!.name, 'logits');
  assert.equal(textOf(of('one')), textOf(of('two')));
  assert.equal(of('whole').length, 1);
  // Neither waits for the other's end.
  const place = (id: string, which: 'first' | 'last') => {
    const places = answers.flatMap((answer, at) => (answer.id === id ? [at] : []));
    return which === 'first' ? places[0]! : places.at(-1)!;
  };
  assert.ok(place('two', 'first') < place('one', 'last') && place('one', 'first') < place('two', 'last'));
  assert.ok(place('whole', 'last') < place('one', 'last'));
});

test('a stream that is left frees the rows of its texts', async () => {
  const controller = new AbortController();
  const endless = { ...usual, stream: true, sampling_parameters: sampling({ max_tokens: 900 }) };
  const running = () => live.metric('heartwood_model_running_requests{model="lm",version="2"}');
  const read = async () => {
    const requests = requestsOf([request(endless, { id: 'a' }), request(endless, { id: 'b' })]);
    for await (const _ of live.raw.modelStreamInfer(requests, { signal: controller.signal })) {
      void _;
      if ((await running()) === 2) controller.abort();
    }
  };
  await assert.rejects(read(), { name: 'AbortError' });
  await until(async () => (await running()) === 0);
});

test('bad inputs: a code and a line that names them', async () => {
  const bad = (inputs: Record<string, Value>, details: RegExp, code = Status.INVALID_ARGUMENT) =>
    refused(live.raw.modelInfer(request({ text_input: 'x', ...inputs })), code, details);
  const withSampling = (text: string, details: RegExp) => bad({ sampling_parameters: text }, details);
  await refused(live.raw.modelInfer(request({})), Status.INVALID_ARGUMENT, /input text_input is missing/);
  await bad({ prompt: 'x' }, /unknown input "prompt", expected of text_input, stream/);
  await bad({ text_input: Uint8Array.of(0xff, 0xfe) }, /input text_input: BYTES that are not UTF-8/);
  await bad({ text_input: true }, /input text_input: datatype BOOL, expected BYTES/);
  await bad(
    { text_input: '', sampling_parameters: '{"max_tokens": 0}' },
    /max_tokens: 0, expected a whole number, 1 or more$/,
  );
  await bad({ budget: 0.5 }, /budget: 0\.5, expected none: version 2 of lm drops no tokens$/);
  await bad({ stream: 'yes' }, /input stream: datatype BYTES, expected BOOL/);
  await bad({ stream: true }, /input stream: true, which ModelInfer cannot answer/, Status.UNIMPLEMENTED);
  await bad({ text_input: 'x'.repeat(2 * textContext) }, new RegExp(`context of ${textContext} tokens`));
  await withSampling('{', /input sampling_parameters: expected a JSON object/);
  await withSampling('[]', /input sampling_parameters: expected a JSON object/);
  await withSampling('null', /input sampling_parameters: expected a JSON object/);
  await withSampling('{"temprature": 1}', /unknown parameter "temprature", expected of temperature, top_k/);
  await withSampling('{"__proto__": {"n": 1}}', /unknown parameter "__proto__"|sampling_parameters/);
  await withSampling('{"temperature": "hot"}', /temperature: expected a number/);
  await withSampling('{"temperature": -1}', /temperature/);
  await withSampling('{"temperature": 1e999}', /temperature/);
  await withSampling('{"top_k": 1.5}', /top_k: expected a whole number/);
  await withSampling('{"top_p": 0}', /top_p: 0, expected a number above 0/);
  await withSampling('{"n": 2}', /n: is not supported, expected 1/);
  await withSampling('{"presence_penalty": 0.5}', /presence_penalty: is not supported, expected 0/);
  await withSampling('{"use_beam_search": true}', /use_beam_search: is not supported, expected false/);
  await withSampling('{"stop": [1]}', /stop/);
  await withSampling(`{"stop": ${JSON.stringify(Array.from({ length: 17 }, () => 'x'))}}`, /stop/);
  await withSampling('{"logprobs": 1000}', /logprobs/);
  await withSampling('{"seed": -1}', /seed/);
  await withSampling('{"seed": 1e300}', /seed: expected a whole number/);
  const neutral = { n: 1, presence_penalty: 0, use_beam_search: false, best_of: null, skip_special_tokens: true };
  const harmless = request({
    text_input: 'x',
    sampling_parameters: sampling({ ...neutral, top_k: '5', stop: 'never' }),
  });
  assert.equal(typeof outputOf(await live.raw.modelInfer(harmless), 'text_output'), 'string');
  const two = request(usual);
  two.inputs![0]!.shape = [2n];
  two.rawInputContents![0] = joinBytes([Buffer.from('a'), Buffer.from('b')]);
  await refused(live.raw.modelInfer(two), Status.INVALID_ARGUMENT, /input text_input: shape \[2\], expected \[1\]/);
  const reserved = request(usual, { parameters: { triton_secret: { boolParam: true } } });
  await refused(live.raw.modelInfer(reserved), Status.INVALID_ARGUMENT, /names that begin with triton_ are reserved/);
  await refused(
    live.raw.modelInfer(rawRequest(1, { modelName: 'lm' })),
    Status.INVALID_ARGUMENT,
    /unknown input "pixel_values"/,
  );
});

test('metadata, configuration and statistics say what a language model is', async () => {
  const metadata = await live.raw.modelMetadata({ name: 'lm' });
  assert.deepEqual([metadata.platform, metadata.versions], ['heartwood', ['1', '2']]);
  assert.deepEqual(metadata.inputs.slice(0, 4), [
    { name: 'text_input', datatype: 'BYTES', shape: [1n] },
    { name: 'stream', datatype: 'BOOL', shape: [1n] },
    { name: 'sampling_parameters', datatype: 'BYTES', shape: [1n] },
    { name: 'exclude_input_in_output', datatype: 'BOOL', shape: [1n] },
  ]);
  assert.deepEqual(metadata.outputs[0], { name: 'text_output', datatype: 'BYTES', shape: [-1n] });
  assert.ok(!metadata.inputs.some(({ name }) => name === 'budget'), 'neither version has a budget');

  const { config } = await live.raw.modelConfig({ name: 'lm', version: '1' });
  assert.equal(config?.modelTransactionPolicy?.decoupled, true);
  assert.deepEqual([config.backend, config.maxBatchSize], ['heartwood', 0]);
  assert.deepEqual(
    config.input.slice(0, 2).map(({ name, dataType, dims, optional }) => [name, dataType, dims, optional]),
    [
      ['text_input', DataType.TYPE_STRING, [1n], false],
      ['stream', DataType.TYPE_BOOL, [1n], true],
    ],
  );
  assert.equal(config.instanceGroup[0]?.kind, ModelInstanceGroup_Kind.KIND_MODEL);
  assert.equal(config.parameters['context']?.stringValue, String(textContext));
  assert.equal(config.parameters['rows']?.stringValue, '16');

  const of = async () => (await live.raw.modelStatistics({ name: 'lm', version: '1' })).modelStats[0]!;
  const before = await of();
  await live.raw.modelInfer(request(usual, { modelVersion: '1' }));
  await assert.rejects(live.raw.modelInfer(request({}, { modelVersion: '1' })));
  const after = await of();
  assert.equal(after.inferenceCount - before.inferenceCount, 1n);
  assert.equal(after.executionCount - before.executionCount, 1n);
  assert.equal(after.inferenceStats!.success!.count - before.inferenceStats!.success!.count, 1n);
  assert.equal(after.inferenceStats!.fail!.count - before.inferenceStats!.fail!.count, 1n);
});
