/** Hostile requests to a server, each with what may be answered to it. */
import { ClassifyRequest, ClassifyResponse, CompareRequest } from '../../../proto/gen/heartwood/serving/v1/serving.js';
import {
  ModelInferRequest,
  ModelInferResponse,
  ModelStreamInferResponse,
} from '../../../proto/gen/open_inference_grpc.js';
import { hostileConnections } from './hostile-connections.js';
import { type HostileRequest, hostileRequests } from './hostile-requests.js';
import { damagedImages, hostileImages } from './images.js';
import {
  classify,
  compare,
  encodeInfer,
  healthyModel,
  type Method,
  methods,
  modelInfer,
  modelStreamInfer,
  wellFormed,
} from './methods.js';
import { type Draw, drawFor, flipped, spliced, truncated } from './random.js';
import type { Answer, Wire } from './wire.js';

/** A server as a fuzzer sees it. */
export interface Target {
  readonly port: number;
  readonly wire: Wire;
  /** An image that is one. */
  readonly image: Uint8Array;
}

export interface Verdict {
  readonly kind: string;
  readonly code: string;
  /** What is wrong with the answer. */
  readonly fault?: string;
}

interface Sent {
  readonly name: string;
  readonly proper: ReadonlySet<string>;
  readonly answer: Answer;
}

const refusals = ['INVALID_ARGUMENT', 'NOT_FOUND', 'RESOURCE_EXHAUSTED', 'UNIMPLEMENTED', 'OUT_OF_RANGE'];
const refused = new Set(refusals);
/** What may or may not be a request any more. UNAVAILABLE has to say why, below. */
const bearable = new Set([...refusals, 'OK', 'UNAVAILABLE', 'CANCELLED']);
const cancelled = new Set(['OK', 'CANCELLED']);
const late = new Set(['OK', 'CANCELLED', 'DEADLINE_EXCEEDED']);

type Kind = (target: Target, draw: Draw) => Promise<Sent>;

const mutations = { flipped, truncated, spliced, 'random bytes': (draw: Draw) => draw.bytes(draw.integer(0, 600)) };

/** Messages of any method, damaged. */
async function damaged({ wire, image }: Target, draw: Draw): Promise<Sent> {
  const method = draw.pick(methods(image));
  const name = draw.pick(Object.keys(mutations) as (keyof typeof mutations)[]);
  const valid = method.messages(draw);
  const at = draw.integer(0, valid.length - 1);
  const messages = valid.map((bytes, index) => (index === at ? mutations[name](draw, bytes) : bytes));
  return { name: `${short(method)}: ${name}`, proper: bearable, answer: await wire.send(callOf(method, messages)) };
}

function callOf({ path, stream, endless }: Method, messages: readonly Uint8Array[]) {
  return { path, stream, messages, ...(endless ? { answersWanted: 1 } : {}) };
}

function short({ path }: Pick<Method, 'path'>): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

/** A request that is protobuf, and hostile, alone or in a stream. */
async function structured({ wire }: Target, draw: Draw): Promise<Sent> {
  const large = draw.chance(0.01);
  const request = draw.pick(hostileRequests.filter((each: HostileRequest) => (each.large ?? false) === large));
  const bytes = request.make(draw);
  if (draw.chance(0.25) && !large) {
    const messages = [encodeInfer(wellFormed('before')), bytes, encodeInfer(wellFormed('after'))];
    return {
      name: `stream: ${request.name}`,
      proper: bearable,
      answer: await wire.send({ path: modelStreamInfer, stream: true, messages }),
    };
  }
  const proper = request.expected === 'refused' ? refused : bearable;
  return {
    name: request.name,
    proper,
    answer: await wire.send({ path: modelInfer, stream: false, messages: [bytes] }),
  };
}

/** Files that are no images, by each of the calls that take some. */
async function images({ wire, image }: Target, draw: Draw): Promise<Sent> {
  const bad = draw.chance(0.7);
  const file = Buffer.from(draw.pick(bad ? hostileImages : damagedImages)(draw, image));
  const proper = bad ? refused : bearable;
  const way = draw.pick(['ModelInfer', 'Classify', 'Compare'] as const);
  const name = `image: ${way}`;
  if (way === 'ModelInfer') {
    const contents = { bytesContents: [file] };
    const input = { name: 'image', datatype: 'BYTES', shape: [1n, 1n], contents };
    const request = ModelInferRequest.fromPartial({ modelName: healthyModel, inputs: [input] });
    return {
      name,
      proper,
      answer: await wire.send({ path: modelInfer, stream: false, messages: [encodeInfer(request)] }),
    };
  }
  if (way === 'Classify') {
    const frames = [image, file, image].map((each, at) => ({
      settings: at === 0 ? { model: healthyModel } : undefined,
      frame: { image: Buffer.from(each) },
    }));
    const messages = frames.map((each) => ClassifyRequest.encode(ClassifyRequest.fromPartial(each)).finish());
    const answer = await wire.send({ path: classify, stream: true, messages });
    return { name, proper: bearable, answer };
  }
  const label = draw.chance(0.5) ? { label: draw.pick([-1, 3, 1, 0x7fffffff]) } : {};
  const title = draw.pick(['', '😀'.repeat(100), `x${'😀'.repeat(100)}`, '\0', 'n'.repeat(100_000)]);
  const messages = [
    { settings: { model: healthyModel, versions: [1n, 2n], warmup: 0 } },
    { sample: { image: file, name: title, ...label } },
  ].map((each) => CompareRequest.encode(CompareRequest.fromPartial(each)).finish());
  return { name, proper, answer: await wire.send({ path: compare, stream: true, messages }) };
}

/** Settings and frames of the other calls that are protobuf and hostile. */
async function settings({ wire, image }: Target, draw: Draw): Promise<Sent> {
  if (draw.chance(0.5)) {
    const bad = draw.pick([
      { versions: [1n, 1n] },
      { versions: [-1n, 1n] },
      { versions: [99n, 1n] },
      { batch: -1 },
      { batch: 0x7fffffff },
      { concurrency: 0x7fffffff },
      { concurrency: 0 },
      { warmup: -1 },
      { budget: NaN },
      { budget: -1 },
      { confidence: 2 },
      { confidence: NaN },
      { model: '../net' },
      { model: '' },
    ]);
    const first = { settings: { model: healthyModel, versions: [1n, 2n], ...bad } };
    const messages = [CompareRequest.encode(CompareRequest.fromPartial(first)).finish()];
    return {
      name: 'Compare: settings',
      proper: refused,
      answer: await wire.send({ path: compare, stream: true, messages }),
    };
  }
  const bad = draw.pick([
    { topK: 0xffffffff },
    { version: -1n },
    { version: 1n << 62n },
    { budget: NaN },
    { budget: -Infinity },
    { deadlineMs: 1 },
    { priority: 0xffffffff },
    { model: 'ñ' },
    { energy: true },
  ]);
  const first = {
    settings: { model: healthyModel, ...bad },
    frame: { image: Buffer.from(image), id: 'x'.repeat(draw.integer(0, 5000)) },
  };
  const messages = [ClassifyRequest.encode(ClassifyRequest.fromPartial(first)).finish()];
  return {
    name: 'Classify: settings',
    proper: bearable,
    answer: await wire.send({ path: classify, stream: true, messages }),
  };
}

/** A hostile connection may end as it likes, if it ends, and not by our own defect. */
async function connection({ port }: Target, draw: Draw): Promise<Sent> {
  const hostile = draw.pick(hostileConnections);
  const answer = await hostile.run(port, draw);
  return {
    name: `connection: ${hostile.name}`,
    proper: new Set([
      ...bearable,
      'CLOSED',
      'DEADLINE_EXCEEDED',
      'RESET',
      'LEFT',
      'INTERNAL',
      answer.code.startsWith('HTTP 4') ? answer.code : '',
    ]),
    answer,
  };
}

/** Well-formed calls that the client gives up. */
async function givenUp({ wire, image }: Target, draw: Draw): Promise<Sent> {
  const method = draw.pick(methods(image));
  const call = callOf(method, method.messages(draw));
  if (draw.chance(0.5)) {
    const answer = await wire.send({ ...call, deadlineMs: 1 });
    return { name: 'deadline of 1 ms', proper: new Set([...late, ...bearable]), answer };
  }
  const halfOpen = method.stream && draw.chance(0.5);
  const answer = await wire.send({ ...call, cancelAfterMs: draw.integer(0, 20), halfOpen });
  return { name: 'cancelled', proper: new Set([...cancelled, ...bearable]), answer };
}

/** A stream whose answers nobody reads for a while. */
async function slow({ wire }: Target, draw: Draw): Promise<Sent> {
  const messages = Array.from({ length: draw.integer(10, 60) }, (_, at) =>
    encodeInfer({ ...wellFormed(), id: `${at}`.repeat(draw.integer(1, 2000)) }),
  );
  const leave = draw.chance(0.5) ? { cancelAfterMs: draw.integer(50, 300) } : {};
  const answer = await wire.send({
    path: modelStreamInfer,
    stream: true,
    messages,
    readLateMs: draw.integer(20, 250),
    ...leave,
  });
  return { name: 'slow reader', proper: cancelled, answer };
}

/** Many streams side by side. */
async function crowd({ wire }: Target, draw: Draw): Promise<Sent> {
  const messages = [encodeInfer(wellFormed())];
  const answers = await Promise.all(
    Array.from({ length: draw.integer(20, 150) }, () =>
      wire.send({
        path: modelStreamInfer,
        stream: true,
        messages,
        ...(draw.chance(0.3) ? { halfOpen: true, cancelAfterMs: draw.integer(1, 100) } : {}),
      }),
    ),
  );
  const worst = answers.find(({ code }) => !cancelled.has(code)) ?? answers[0]!;
  return { name: 'many streams', proper: cancelled, answer: worst };
}

/** By how often each is drawn. */
const kinds: readonly (readonly [number, Kind])[] = [
  [34, damaged],
  [30, structured],
  [8, images],
  [4, settings],
  [12, connection],
  [9, givenUp],
  [2, slow],
  [1, crowd],
];
const lots = kinds.flatMap(([share, kind]) => Array.from({ length: share }, () => kind));

/** Sends the request of this number and judges what is answered. */
export async function sendHostile(target: Target, seed: number, index: number): Promise<Verdict> {
  const draw = drawFor(seed, 1, index);
  const { name, proper, answer } = await draw.pick(lots)(target, draw);
  const inStream = faultInStream(name, answer);
  const fault = inStream ?? faultOf(answer, proper);
  return {
    kind: name,
    code: answer.code,
    ...(fault === undefined ? {} : { fault: `request ${index}, ${name}: ${fault}` }),
  };
}

const ownDefect = /internal error; the log/;
/** What UNAVAILABLE may be for: a version that somebody unloaded. */
const unloaded = /: (unloaded|it is not loaded|it is being loaded)$|the server is stopping/;
/** Codes that gRPC's library or Triton's protocol calls INTERNAL: neither is a defect. */
const notOurs = /^(failed to load '|Failed to decompress message|Invalid grpc-timeout value)/;
/** gRPC's library quotes the path, which is a header's length at most. */
const unknownMethod = /^The server does not implement the method/;

function faultOf({ code, details }: Answer, proper: ReadonlySet<string>): string | undefined {
  const said = `${code} ${details.slice(0, 300)}`;
  if (ownDefect.test(details)) return said;
  if ((details.length > 4096 && !unknownMethod.test(details)) || /\n/.test(details))
    return `details of ${details.length} characters: ${said}`;
  if (code === 'INTERNAL') return notOurs.test(details) ? undefined : said;
  if (!proper.has(code)) return said;
  if (code === 'UNAVAILABLE' && !unloaded.test(details)) return said;
  return undefined;
}

function faultInStream(name: string, { messages }: Answer): string | undefined {
  for (const bytes of messages) {
    if (/^(stream|many|slow|ModelStreamInfer)/.test(name)) {
      const { errorMessage } = ModelStreamInferResponse.decode(bytes);
      if (ownDefect.test(errorMessage)) return `in a stream: ${errorMessage}`;
    } else if (name.includes('Classify')) {
      const { error } = ClassifyResponse.decode(bytes);
      if (error && [2, 13].includes(error.code)) return `in a stream: ${error.code} ${error.message}`;
    }
  }
  return undefined;
}

/** Throws unless the healthy model answers what it must. */
export async function checkHealthy({ wire }: Target): Promise<void> {
  const sending = { path: modelInfer, stream: false, messages: [encodeInfer(wellFormed('check'))] };
  const { code, details, messages } = await wire.send(sending);
  const [message] = messages;
  if (code !== 'OK' || message === undefined) throw new Error(`a well-formed request was answered ${code}: ${details}`);
  const { id, rawOutputContents } = ModelInferResponse.decode(message);
  const logits = new Float32Array(Uint8Array.from(rawOutputContents[0] ?? []).buffer);
  if (id !== 'check' || logits.length !== 3 || logits.some((value) => value !== 0.5)) {
    throw new Error(`a well-formed request was answered wrongly: ${id} [${logits.join(', ')}]`);
  }
}
