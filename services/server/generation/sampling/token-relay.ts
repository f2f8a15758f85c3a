/**
 * Module of a worker: draws the tokens behind a run of a generation graph, and feeds them to the next. What it knows of a request is its sampler and
 * the token that was drawn last, so that a run over drawn tokens can be asked for before anybody has seen them.
 */
import { messageOf } from '../../../../libs/errors/error.js';
import type { Relay } from '../../../../libs/runtime/relay.js';
import type { TensorValue } from '../../../../libs/runtime/tensor.js';
import { tokenIds, tokenRows } from '../token-tensors.js';
import { logprobsOf } from './logprobs.js';
import type { DrawnToken, PromptMessage, RelayedTokens, SamplerTerms, TokenMessage } from './relayed-tokens.js';
import { Sampler } from './sampler.js';

interface Drawing {
  readonly sampler: Sampler;
  last: DrawnToken;
}

type Outputs = Readonly<Record<string, TensorValue>>;

export function openRelay(): Relay {
  return new TokenRelay();
}

class TokenRelay implements Relay {
  readonly #drawing = new Map<number, Drawing>();

  before(message: unknown): Record<string, TensorValue> {
    return { input_ids: tokenIds(this.#ids(message as TokenMessage)) };
  }

  after(said: unknown, outputs: Outputs): RelayedTokens {
    const message = said as TokenMessage;
    const logits = rowsOf(outputs['logits']!);
    const lengths = tokenRows(outputs['cached_after']!);
    if (message.kind === 'draw') return { lengths, drawn: this.#draw(message.requests, logits), scored: [] };
    const { scored, sampler } = message;
    const top = scored?.top ?? 0;
    // Before anything is drawn, which changes logits.
    const known = (scored?.ids ?? []).map((id, index) => logprobsOf(logits[index]!, id, top));
    return { lengths, drawn: sampler ? [this.#first(message, sampler, logits.at(-1)!)] : [], scored: known };
  }

  #ids(message: TokenMessage): readonly (readonly number[])[] {
    if (message.kind === 'prompt') return [message.ids];
    // In the place of a token that could not be drawn goes any: its request has ended.
    return message.requests.map((request) => {
      const last = this.#drawing.get(request)?.last;
      return [last && 'id' in last ? last.id : 0];
    });
  }

  #first(
    { request, decoding }: PromptMessage,
    { sampling, seed, seen, top }: SamplerTerms,
    logits: Float32Array,
  ): DrawnToken {
    // Texts of one token come to no run over drawn ones.
    this.#keep(decoding);
    const sampler = new Sampler(sampling, seed, seen, top);
    const last = drawn(sampler, logits);
    this.#drawing.set(request, { sampler, last });
    return last;
  }

  /** Every request that decodes is in every such run: who is not has ended. */
  #draw(requests: readonly number[], logits: readonly Float32Array[]): readonly DrawnToken[] {
    this.#keep(requests);
    return requests.map((request, index) => {
      const drawing = this.#drawing.get(request);
      if (drawing === undefined) return { error: 'nothing was drawn for the request before' };
      if ('id' in drawing.last) drawing.last = drawn(drawing.sampler, logits[index]!);
      return drawing.last;
    });
  }

  /** Whoever else is known has ended. */
  #keep(requests: readonly number[]): void {
    for (const known of this.#drawing.keys()) if (!requests.includes(known)) this.#drawing.delete(known);
  }
}

function drawn(sampler: Sampler, logits: Float32Array): DrawnToken {
  try {
    return sampler.next(logits);
  } catch (thrown) {
    return { error: messageOf(thrown) };
  }
}

/** Logits [B, K, V] by row. */
function rowsOf({ data, dims }: TensorValue): Float32Array[] {
  const width = dims.at(-1)!;
  const logits = data as Float32Array;
  return Array.from({ length: logits.length / width }, (_, row) => logits.subarray(row * width, (row + 1) * width));
}
