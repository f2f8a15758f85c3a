import type { CallContext } from 'nice-grpc';
import { invalid } from '../../../libs/errors/error.js';
import {
  type DeepPartial,
  FinishReason,
  type GeneratedText,
  type GeneratedToken as TokenMessage,
  type GenerateRequest,
  GenerateResponse,
  type GenerationEnd,
  type ServingServiceImplementation,
} from '../../../proto/gen/heartwood/serving/v1/serving.js';
import { framedMessage } from '../../grpc/framed-message.js';
import type { EndEvent, FinishReason as Finish, GeneratedToken, TextEvent } from '../generation/event.js';
import { checkBudget } from '../inference/budget.js';
import type { Generation, GenerationAnswer, GenerationCall, GenerationContents } from '../inference/generation.js';
import { mapped } from '../inference/mapped.js';
import { TRACEPARENT, traceOf } from '../inference/trace.js';

type Response = DeepPartial<GenerateResponse>;

const finishReasons: Readonly<Record<Finish, FinishReason>> = {
  stop: FinishReason.FINISH_REASON_STOP,
  eos: FinishReason.FINISH_REASON_EOS,
  length: FinishReason.FINISH_REASON_LENGTH,
};

/** The call Generate: a text, piece by piece. The transport awaits each piece, so a client that reads slowly gets fewer, longer ones. */
export function generateCall(generation: Generation): ServingServiceImplementation['generate'] {
  return (request: GenerateRequest, { signal, metadata }: CallContext) =>
    generation.generate(callOf(request, metadata.get(TRACEPARENT)), signal, (answer) =>
      responses(answer, request.energy),
    );
}

function callOf(request: GenerateRequest, traceparent: string | undefined): GenerationCall {
  const { model, version, id } = request;
  return {
    model,
    version: version === 0n ? '' : String(version),
    trace: traceOf(traceparent, id),
    contents: () => contentsOf(request),
  };
}

function contentsOf(request: GenerateRequest): GenerationContents {
  const { text, tokens, maxTokens, temperature, topK, topP, repetitionPenalty, seed, budget } = request;
  const prompt = text ?? tokens?.ids;
  if (prompt === undefined) throw invalid('prompt: missing, expected text or tokens');
  return {
    prompt,
    sampling: { ...defined({ temperature, topK, topP, repetitionPenalty }), seed: seedOf(seed) },
    maxTokens,
    stop: request.stop,
    logprobs: request.logprobs,
    echo: request.echo,
    truncate: request.truncate,
    ignoreEos: request.ignoreEos,
    budget: budget === undefined ? undefined : checkBudget(budget, 'budget'),
    timeoutMs: request.deadlineMs || undefined,
    priority: request.priority || undefined,
  };
}

/** Without the entries that are undefined. */
function defined<T extends Record<string, number | undefined>>(values: T): { [K in keyof T]?: number } {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: number;
  };
}

/** The engine takes what a JavaScript number can hold: a seed that would be rounded is refused rather than taken for another. */
function seedOf(seed: bigint | undefined): number | undefined {
  if (seed === undefined) return undefined;
  if (seed > BigInt(Number.MAX_SAFE_INTEGER))
    throw invalid(`seed: expected at most ${Number.MAX_SAFE_INTEGER}, got ${seed}`);
  return Number(seed);
}

function responses(answer: GenerationAnswer, energy: boolean): AsyncIterable<Response> {
  return mapped(answer.events, (event): Response | Promise<Response> =>
    event.kind === 'text'
      ? framedMessage(GenerateResponse, { text: textMessage(event), end: undefined })
      : endOf(answer, event, energy),
  );
}

async function endOf(answer: GenerationAnswer, event: EndEvent, energy: boolean): Promise<Response> {
  return { end: endMessage(answer, event, energy ? await answer.joules() : undefined) };
}

function textMessage({ text, tokens }: TextEvent): GeneratedText {
  return { text, tokens: tokens.map(tokenMessage) };
}

function tokenMessage({ id, logprob, top = [] }: GeneratedToken): TokenMessage {
  return { id, logprob, top: top.map(({ id, logprob }) => ({ id, logprob })) };
}

function endMessage(
  { served, budget }: GenerationAnswer,
  { finishReason, stopString, seed, usage, timing }: EndEvent,
  joules: number | undefined,
): DeepPartial<GenerationEnd> {
  const { promptTokens, cachedTokens, completionTokens, tokensKept } = usage;
  const { queueMs, firstTokenMs, totalMs } = timing;
  return {
    finishReason: finishReasons[finishReason],
    stopString,
    seed: BigInt(seed),
    model: served.model,
    version: BigInt(served.version),
    promptTokens,
    cachedTokens,
    completionTokens,
    tokensKept: [...tokensKept],
    queueMs,
    firstTokenMs,
    totalMs,
    joules,
    budget,
  };
}
