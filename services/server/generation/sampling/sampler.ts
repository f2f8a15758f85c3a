import { type RandomGenerator, randomFor } from '../../../../libs/data/random.js';
import { internal } from '../../../../libs/errors/error.js';
import type { GeneratedToken } from '../event.js';
import type { Sampling } from '../request.js';
import { draw } from './draw.js';
import { logprobsOf } from './logprobs.js';

/**
 * Draws the tokens of one request: its random numbers are its own, so that what it draws does not depend on what runs beside it. With a
 * temperature two random numbers are drawn for every token, whatever it comes to.
 */
export class Sampler {
  readonly #random: RandomGenerator;
  readonly #seen: Set<number> | undefined;

  /** @param top how many of the likeliest tokens are told with each; undefined: no log-probabilities */
  constructor(
    private readonly sampling: Sampling,
    seed: number,
    prompt: Iterable<number>,
    private readonly top: number | undefined,
  ) {
    this.#random = randomFor(seed % 2 ** 32, Math.floor(seed / 2 ** 32));
    this.#seen = sampling.repetitionPenalty === 1 ? undefined : new Set(prompt);
  }

  /** @param logits of the vocabulary; they are changed where there is a repetition penalty */
  next(logits: Float32Array): GeneratedToken {
    // Log-probabilities are the model's own, before anything is done to them.
    const own = this.top === undefined || this.#seen === undefined ? logits : logits.slice();
    this.#penalise(logits);
    const id = draw(logits, this.sampling, this.#random);
    if (id === undefined) throw internal('the logits of the model are not numbers');
    this.#seen?.add(id);
    return this.top === undefined ? { id } : logprobsOf(own, id, this.top);
  }

  #penalise(logits: Float32Array): void {
    const { repetitionPenalty: penalty } = this.sampling;
    for (const id of this.#seen ?? []) {
      const logit = logits[id]!;
      logits[id] = logit > 0 ? logit / penalty : logit * penalty;
    }
  }
}
