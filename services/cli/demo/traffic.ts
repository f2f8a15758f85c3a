import { HeartwoodError } from '../../../libs/errors/error.js';
import { type EnergyMeter, joulesBetween } from '../../../libs/energy/meter.js';
import {
  rowOf,
  type InferenceAnswer,
  type InferenceClient,
  type InferenceFailure,
  type InferenceRequest,
} from '../../server/client.js';
import type { ProgressEvent } from '../progress.js';

/** One way of asking: a version, and a budget where it is not the version's own. */
export interface Lane {
  readonly version: number;
  readonly budget?: number;
}

/** One image to ask about. */
export interface TestImage {
  readonly encoded: Uint8Array;
  readonly label: number | undefined;
}

/** What one lane answered to one image. */
export interface Answer {
  readonly logits: Float32Array;
  /** Tokens after each stage. */
  readonly kept: readonly number[];
  /** From the request's sending to the answer, through gRPC, preprocessing included. */
  readonly latencyMs: number;
  /** Of the whole machine; undefined without a meter. */
  readonly joules: number | undefined;
}

/** An answer whose joules come with the meter's next reading, for which no request waits. */
type Pending = Omit<Answer, 'joules'> & { readonly joules: Promise<number | undefined> };

/** Requests that are handed to a stream one after the other. */
class Requests implements AsyncIterable<InferenceRequest> {
  #waiting: ((result: IteratorResult<InferenceRequest, undefined>) => void) | undefined;
  #queued: InferenceRequest | undefined;
  #ended = false;

  push(request: InferenceRequest): void {
    if (this.#waiting === undefined) this.#queued = request;
    else this.#waiting({ value: request, done: false });
    this.#waiting = undefined;
  }

  end(): void {
    this.#ended = true;
    this.#waiting?.({ value: undefined, done: true });
  }

  [Symbol.asyncIterator](): AsyncIterator<InferenceRequest, undefined> {
    return {
      next: () => {
        const queued = this.#queued;
        this.#queued = undefined;
        if (queued !== undefined) return Promise.resolve({ value: queued, done: false });
        if (this.#ended) return Promise.resolve({ value: undefined, done: true });
        return new Promise((resolve) => (this.#waiting = resolve));
      },
    };
  }
}

/**
 * Streams every image to every lane in turn over one bidirectional stream, one request at a time so that a latency is a
 * latency; which lane goes first changes from image to image. `warmup` images are sent beforehand and not counted.
 * @returns [lane][image]
 */
export async function streamTraffic(
  client: InferenceClient,
  model: string,
  lanes: readonly Lane[],
  images: readonly TestImage[],
  options: {
    warmup: number;
    meter: EnergyMeter | undefined;
    signal: AbortSignal;
    progress: (event: ProgressEvent) => void;
  },
): Promise<Answer[][]> {
  const requests = new Requests();
  const answers = client.stream(requests, options.signal)[Symbol.asyncIterator]() as AsyncIterator<
    InferenceAnswer | InferenceFailure,
    undefined
  >;
  const ask = async ({ version, budget }: Lane, image: TestImage): Promise<Pending> => {
    const before = options.meter?.joules();
    const sent = performance.now();
    requests.push({ model, version, images: [image.encoded], ...(budget === undefined ? {} : { budget }) });
    const { value } = await answers.next();
    const latencyMs = performance.now() - sent;
    const joules = joulesBetween(before, options.meter?.joules());
    if (value === undefined) throw new HeartwoodError('UNAVAILABLE', 'the server ended the stream');
    if ('error' in value) throw new HeartwoodError('INTERNAL', `version ${version} of ${model}: ${value.error}`);
    const kept = value.outputs.tokens_kept;
    return {
      logits: rowOf(value.outputs.logits!, 0) as Float32Array,
      kept: kept === undefined ? [] : Array.from(rowOf(kept, 0) as Int32Array),
      latencyMs,
      joules,
    };
  };
  const table = lanes.map((): Pending[] => []);
  try {
    for (const image of images.slice(0, options.warmup)) for (const lane of lanes) await ask(lane, image);
    for (const [index, image] of images.entries()) {
      options.signal.throwIfAborted();
      for (let i = 0; i < lanes.length; i++) {
        const at = (i + index) % lanes.length;
        table[at]!.push(await ask(lanes[at]!, image));
      }
      options.progress({ stage: 'stream', done: index + 1, total: images.length, unit: 'images' });
    }
  } finally {
    requests.end();
    await answers.return?.();
  }
  return Promise.all(
    table.map((lane) => Promise.all(lane.map(async (answer) => ({ ...answer, joules: await answer.joules })))),
  );
}
