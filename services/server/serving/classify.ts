import type { CallContext } from 'nice-grpc';
import { HeartwoodError, invalid } from '../../../libs/errors/error.js';
import { softmax } from '../../../libs/pruning/measure/divergence.js';
import type {
  Classification,
  ClassifyRequest,
  ClassifyResponse,
  ClassifySettings,
  DeepPartial,
  ServingServiceImplementation,
} from '../../../proto/gen/heartwood/serving/v1/serving.js';
import { Status } from 'nice-grpc';
import { toServerError } from '../../grpc/errors.js';
import { IMAGE, LOGITS } from '../catalog/served-version.js';
import { checkBudget } from '../inference/budget.js';
import type { CallContents, InferenceAnswer, InferenceCall } from '../inference/call.js';
import { greatest } from '../inference/classes.js';
import type { Inference } from '../inference/inference.js';
import { type Trace, TRACEPARENT, traceOf } from '../inference/trace.js';
import { answerInOrder } from '../open-inference/answer-stream.js';
import { answerNewest } from './newest-only.js';

const defaultTopK = 5;

export interface ClassifyParts {
  readonly inference: Inference;
  /** Frames of one stream that are worked on at a time, where none is dropped. */
  readonly streamWindow: number;
  /** Aborts when the server is about to stop. */
  readonly stopping: AbortSignal;
  /** Told of defects of our own that became an answer's error. */
  report(error: unknown, method: string): void;
}

/** A frame and the settings that held when it came. */
interface Framed {
  readonly request: ClassifyRequest;
  readonly settings: ClassifySettings | undefined;
  readonly trace: Trace | undefined;
}

/** The call Classify. */
export function classifyCall(parts: ClassifyParts): ServingServiceImplementation['classify'] {
  return (requests, context) => classify(parts, requests, context);
}

/** Classifies a stream of encoded frames, answers in their order. */
async function* classify(
  parts: ClassifyParts,
  requests: AsyncIterable<ClassifyRequest>,
  { signal, metadata }: CallContext,
): AsyncGenerator<DeepPartial<ClassifyResponse>> {
  const frames = framesOf(requests, metadata.get(TRACEPARENT))[Symbol.asyncIterator]();
  // Whether frames may be dropped is the stream's manner from its first frame on.
  const first = await frames.next();
  if (first.done === true) return;
  const all = prepend(first.value, frames);
  const handle = (framed: Framed) => answerOf(parts, framed, signal);
  if (first.value.settings?.latestOnly !== true) {
    yield* answerInOrder(all, parts.streamWindow, handle, parts.stopping);
    return;
  }
  for await (const { answer, dropped } of answerNewest(all, handle, parts.stopping)) yield { ...answer, dropped };
}

/** Requests without a frame only change the settings. */
async function* framesOf(requests: AsyncIterable<ClassifyRequest>, traceparent?: string): AsyncGenerator<Framed> {
  let settings: ClassifySettings | undefined;
  for await (const request of requests) {
    settings = request.settings ?? settings;
    if (request.frame !== undefined || settings === undefined) {
      yield { request, settings, trace: traceOf(traceparent, request.frame?.id ?? '') };
    }
  }
}

async function* prepend<T>(first: T, rest: AsyncIterator<T>): AsyncGenerator<T> {
  try {
    yield first;
    for (let next = await rest.next(); next.done !== true; next = await rest.next()) yield next.value;
  } finally {
    await rest.return?.();
  }
}

/** A frame that fails answers in its place. */
async function answerOf(
  parts: ClassifyParts,
  framed: Framed,
  signal: AbortSignal,
): Promise<DeepPartial<ClassifyResponse>> {
  const id = framed.request.frame?.id ?? '';
  try {
    const { settings } = framed;
    if (settings === undefined) throw invalid('settings: missing, expected in the first request of the stream');
    const joules: (Promise<number | undefined> | undefined)[] = [];
    const classification = await parts.inference.infer(callOf(framed, settings), signal, (answer) => {
      if (settings.energy) joules.push(answer.joules);
      return classificationOf(answer, settings.topK || defaultTopK);
    });
    const spent = await joules[0];
    return { id, classification: spent === undefined ? classification : { ...classification, joules: spent } };
  } catch (thrown) {
    const { code, details } = toServerError(thrown);
    if (code === Status.INTERNAL) parts.report(thrown, 'Classify');
    return { id, error: { code, message: details } };
  }
}

function callOf({ request: { frame }, trace }: Framed, settings: ClassifySettings): InferenceCall {
  const { model, version, priority } = settings;
  return {
    model,
    version: version === 0n ? '' : String(version),
    trace,
    contents: (): CallContents => {
      if (frame === undefined || frame.image.length === 0)
        throw invalid('frame.image: empty, expected an encoded image');
      const budget = frame.budget ?? settings.budget;
      return {
        inputs: new Map([[IMAGE, { name: IMAGE, datatype: 'BYTES', dims: [1, 1], data: [frame.image] }]]),
        outputs: [LOGITS],
        budget: budget === undefined ? undefined : checkBudget(budget, 'budget'),
        timeoutMs: (frame.deadlineMs ?? settings.deadlineMs) || undefined,
        priority: priority || undefined,
      };
    },
  };
}

function classificationOf(
  { served, outputs, run, queueMs }: InferenceAnswer,
  topK: number,
): DeepPartial<Classification> {
  const logits = outputs[0]?.value.data;
  if (!(logits instanceof Float32Array)) {
    throw new HeartwoodError('FAILED_PRECONDITION', `model ${served.model}: its ${LOGITS} are not float32`);
  }
  const probabilities = softmax(logits);
  const { labels } = served.manifest;
  const { startedAt, endedAt } = run.execution;
  return {
    model: served.model,
    version: BigInt(served.version),
    classes: greatest(logits, topK).map((index) => ({
      index,
      label: labels[index] ?? '',
      probability: probabilities[index]!,
    })),
    tokensKept: [...(run.tokensKept[0] ?? [])],
    flops: run.flops[0] ?? 0,
    budget: run.budget?.[0],
    queueMs,
    computeMs: endedAt - startedAt,
  };
}
