import type { EndEvent, FinishReason, GeneratedToken } from '../generation/event.js';
import type { Vocabulary } from '../generation/vocabulary.js';
import { encodeOutput, joinBytes } from './tensor-codec.js';

/** What a request wants beside the text. */
export interface WantedOutputs {
  readonly finishReason?: boolean;
  readonly cumulativeLogprob?: boolean;
  readonly logprobs?: boolean;
  readonly inputTokens?: boolean;
  readonly outputTokens?: boolean;
}

type Output = ReturnType<typeof encodeOutput>;

/** vLLM has no name of its own for a text that the model ended. */
const finishReasons: Readonly<Record<FinishReason, string>> = { stop: 'stop', eos: 'stop', length: 'length' };

/** Makes the output tensors of each piece of a text. */
export class GenerationOutputs {
  #cumulative = 0;
  #tokens = 0;

  constructor(
    private readonly wanted: WantedOutputs,
    private readonly facts: {
      readonly vocabulary: Vocabulary;
      /** Whether log-probabilities were asked for. */
      readonly logprobs: boolean;
      /** Tokens of the prompt. */
      readonly inputTokens: number;
    },
  ) {}

  /**
   * The tensors of a piece. Counts and log-probabilities are of the piece; the cumulative one is of the text so far.
   * @param end of the text, where the piece is its last
   */
  piece(text: string, tokens: readonly GeneratedToken[], end: EndEvent | undefined): Output[] {
    const { finishReason, cumulativeLogprob, logprobs, inputTokens, outputTokens } = this.wanted;
    for (const { logprob } of tokens) this.#cumulative += logprob ?? 0;
    const outputs = [bytesOutput('text_output', text)];
    // Until it has ended vLLM says Python's None.
    if (finishReason) outputs.push(bytesOutput('finish_reason', end ? finishReasons[end.finishReason] : 'None'));
    if (cumulativeLogprob) {
      const data = Float32Array.of(this.#cumulative);
      outputs.push(encodeOutput('cumulative_logprob', { type: 'float32', dims: [1], data }));
    }
    if (logprobs) outputs.push(bytesOutput('logprobs', this.#logprobs(tokens)));
    if (inputTokens) outputs.push(countOutput('num_input_tokens', this.facts.inputTokens));
    if (outputTokens) {
      // Tokens without a text of their own, such as the one that ends it, count in the last piece.
      const count = end ? end.usage.completionTokens - this.#tokens : tokens.length;
      this.#tokens += count;
      outputs.push(countOutput('num_output_tokens', count));
    }
    return outputs;
  }

  /** Of each token an object of the likeliest and itself by their numbers; null where none were asked for. */
  #logprobs(tokens: readonly GeneratedToken[]): string {
    if (!this.facts.logprobs) return 'null';
    const entry = (id: number, logprob: number, rank: number | null): [string, object] => [
      String(id),
      { logprob, rank, decoded_token: Buffer.from(this.facts.vocabulary.bytes(id)).toString() },
    ];
    return JSON.stringify(
      tokens.map(({ id, logprob, top = [] }) => {
        const likeliest = top.map((each, at) => entry(each.id, each.logprob, at + 1));
        const own = logprob === undefined || top.some((each) => each.id === id) ? [] : [entry(id, logprob, null)];
        return Object.fromEntries([...likeliest, ...own]);
      }),
    );
  }
}

function bytesOutput(name: string, text: string): Output {
  return { tensor: { name, datatype: 'BYTES', shape: [1n] }, raw: joinBytes([Buffer.from(text)]) };
}

/** Unsigned integers of 32 bits, little-endian. */
function countOutput(name: string, count: number): Output {
  const raw = Buffer.alloc(4);
  raw.writeUInt32LE(count);
  return { tensor: { name, datatype: 'UINT32', shape: [1n] }, raw };
}
