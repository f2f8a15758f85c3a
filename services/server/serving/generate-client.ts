import type { Client } from 'nice-grpc';
import { internal } from '../../../libs/errors/error.js';
import {
  type DeepPartial,
  FinishReason as WireReason,
  type GenerateRequest,
  type GenerateResponse,
  type GenerationEnd,
  type ServingServiceDefinition,
} from '../../../proto/gen/heartwood/serving/v1/serving.js';
import type { FinishReason, TextEvent } from '../generation/event.js';
import { mapped } from '../inference/mapped.js';
import type { AskedText, TextEnd } from '../inference/text-source.js';

/** Asks a server. Throws what the server answers, as nice-grpc does. */
export function generateRemotely(
  serving: Client<ServingServiceDefinition>,
  asked: AskedText,
  signal: AbortSignal,
): AsyncIterable<TextEvent | TextEnd> {
  return mapped(serving.generate(requestOf(asked), { signal }), eventOf);
}

function eventOf({ text, end }: GenerateResponse): TextEvent | TextEnd {
  if (text) return { kind: 'text', text: text.text, tokens: text.tokens.map(tokenOf) };
  if (end) return endOf(end);
  throw internal('the server answered with an empty piece of text');
}

function requestOf({ prompt, sampling, ...asked }: AskedText): DeepPartial<GenerateRequest> {
  const { temperature, topK, topP, repetitionPenalty, seed } = sampling;
  return {
    ...(typeof prompt === 'string' ? { text: prompt } : { tokens: { ids: [...prompt] } }),
    model: asked.model,
    version: BigInt(asked.version ?? 0),
    maxTokens: asked.maxTokens,
    temperature,
    topK,
    topP,
    repetitionPenalty,
    seed: seed === undefined ? undefined : BigInt(seed),
    stop: [...(asked.stop ?? [])],
    logprobs: asked.logprobs,
    echo: asked.echo ?? false,
    truncate: asked.truncate ?? false,
    ignoreEos: asked.ignoreEos ?? false,
    budget: asked.budget,
    deadlineMs: asked.timeoutMs ?? 0,
    priority: asked.priority ?? 0,
    energy: asked.energy ?? false,
  };
}

const reasons: Readonly<Partial<Record<WireReason, FinishReason>>> = {
  [WireReason.FINISH_REASON_STOP]: 'stop',
  [WireReason.FINISH_REASON_EOS]: 'eos',
  [WireReason.FINISH_REASON_LENGTH]: 'length',
};

function tokenOf({
  id,
  logprob,
  top,
}: {
  id: number;
  logprob?: number | undefined;
  top: { id: number; logprob: number }[];
}) {
  return { id, ...(logprob === undefined ? {} : { logprob, top }) };
}

function endOf(end: GenerationEnd): TextEnd {
  const finishReason = reasons[end.finishReason];
  if (finishReason === undefined)
    throw internal(`the server ended a text for a reason without a name, ${end.finishReason}`);
  const { model, promptTokens, cachedTokens, completionTokens, tokensKept, queueMs, firstTokenMs, totalMs } = end;
  return {
    kind: 'end',
    finishReason,
    ...(end.stopString === undefined ? {} : { stopString: end.stopString }),
    seed: Number(end.seed),
    usage: { promptTokens, cachedTokens, completionTokens, tokensKept },
    timing: { queueMs, firstTokenMs, totalMs },
    model,
    version: Number(end.version),
    joules: end.joules,
    budget: end.budget,
  };
}
