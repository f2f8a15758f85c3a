/** Streams that start, stop, cancel and break at random, each held against the same request alone. */
import { integerIn, type RandomGenerator, randomFor } from '../../../libs/data/random.js';
import { HeartwoodError } from '../../../libs/errors/error.js';
import { connectInference, type InferenceClient } from '../../../services/server/client.js';
import type { AskedText } from '../../../services/server/inference/text-source.js';
import { breakable } from './breakable.js';

const model = 'small';
const never = new AbortController().signal;

/** What a request comes to alone. */
interface Expected {
  readonly text: string;
  readonly ids: readonly number[];
}

interface Case {
  readonly asked: AskedText;
  readonly expected: Expected;
}

/** What the streams came to. */
export interface Tally {
  finished: number;
  /** Readers that left in the middle. */
  left: number;
  /** Cancelled by a signal. */
  cancelled: number;
  /** Whose connection was closed under them. */
  broken: number;
  /** Ended by their deadline. */
  late: number;
  /** Texts that were not those of the request alone, or not their beginning. */
  mixed: number;
  /** Errors that nobody had asked for. */
  failed: number;
  /** Of the prompts, as the ends said. */
  reused: number;
  readonly problems: string[];
}

const beginnings = [
  'The old wood stood at the end of the valley, and nobody who lived there remembered who had planted it. ',
  'In the beginning there was a question. ',
  'Für Kärnvirke gilt: ',
  '',
];
const ends = ['Then', 'Nobody knew', 'On the third day the rain', 'Why? Because the oak', '🌲'];

/** Requests of every kind: greedy and sampled, short and long, with stop strings, log-probabilities and echo. */
export async function cases(client: InferenceClient, count: number): Promise<Case[]> {
  const made: Case[] = [];
  for (let i = 0; i < count; i++) {
    const random = randomFor(41, i);
    const pick = <T>(list: readonly T[]): T => list[integerIn(random, 0, list.length - 1)]!;
    const sampled = { temperature: pick([0.7, 1, 1.3]), topK: pick([0, 20]), topP: pick([1, 0.9]), seed: i };
    const asked: AskedText = {
      model,
      prompt: pick(beginnings) + pick(ends),
      sampling: i % 4 === 0 ? {} : { ...sampled, repetitionPenalty: pick([1, 1.2]) },
      maxTokens: integerIn(random, 1, 100),
      stop: pick([[], [], ['e', 'ab'], ['\n']]),
      logprobs: pick([undefined, undefined, undefined, 2]),
      echo: pick([false, false, true]),
      ignoreEos: pick([true, false]),
    };
    made.push({ asked, expected: await read(client, asked) });
  }
  return made;
}

async function read(client: InferenceClient, asked: AskedText): Promise<Expected> {
  let text = '';
  const ids: number[] = [];
  for await (const event of client.generate(asked, never)) {
    if (event.kind !== 'text') continue;
    text += event.text;
    for (const { id } of event.tokens) ids.push(id);
  }
  return { text, ids };
}

type Fate = 'finish' | 'leave' | 'cancel' | 'break' | 'late';

const fates: readonly Fate[] = ['finish', 'finish', 'finish', 'finish', 'leave', 'cancel', 'break', 'late'];

/** Keeps `lanes` streams under way until `until` (on the clock of performance.now()). */
export async function restlessStreams(
  address: string,
  known: readonly Case[],
  lanes: number,
  until: number,
): Promise<Tally> {
  const tally: Tally = {
    finished: 0,
    left: 0,
    cancelled: 0,
    broken: 0,
    late: 0,
    mixed: 0,
    failed: 0,
    reused: 0,
    problems: [],
  };
  // A connection takes so many streams at a time, as a client of several threads would have it.
  const shared = Array.from({ length: Math.ceil(lanes / 20) }, () => connectInference(address));
  const lane = async (index: number): Promise<void> => {
    const random = randomFor(43, index);
    while (performance.now() < until) {
      const { asked, expected } = known[integerIn(random, 0, known.length - 1)]!;
      const fate = fates[integerIn(random, 0, fates.length - 1)]!;
      await stream(shared[index % shared.length]!, address, asked, expected, fate, random, tally);
    }
  };
  await Promise.all(Array.from({ length: lanes }, (_, index) => lane(index)));
  for (const client of shared) client.close();
  return tally;
}

async function stream(
  common: InferenceClient,
  address: string,
  request: AskedText,
  expected: Expected,
  fate: Fate,
  random: RandomGenerator,
  tally: Tally,
): Promise<void> {
  // Who breaks a connection has one of its own.
  const proxy = fate === 'break' ? await breakable(address) : undefined;
  const client = proxy ? connectInference(proxy.address) : common;
  const asked = fate === 'late' ? { ...request, timeoutMs: integerIn(random, 1, 400) } : request;
  const controller = new AbortController();
  const events = integerIn(random, 0, 30);
  const timer = fate === 'cancel' ? setTimeout(() => controller.abort(), integerIn(random, 0, 500)) : undefined;
  let text = '';
  const ids: number[] = [];
  let count = 0;
  let ended = false;
  let error: unknown;
  try {
    for await (const event of client.generate(asked, controller.signal)) {
      if (event.kind === 'end') {
        ended = true;
        tally.reused += event.usage.cachedTokens;
        continue;
      }
      text += event.text;
      for (const { id } of event.tokens) ids.push(id);
      if (fate === 'leave' && count === events) break;
      if (count === events) proxy?.tear();
      count++;
    }
  } catch (thrown) {
    error = thrown;
  } finally {
    clearTimeout(timer);
    proxy?.tear();
    if (proxy) client.close();
  }
  const right = ended
    ? text === expected.text && ids.join() === expected.ids.join()
    : expected.text.startsWith(text) && expected.ids.slice(0, ids.length).join() === ids.join();
  if (!right) {
    tally.mixed++;
    tally.problems.push(`${JSON.stringify(asked)}: ${JSON.stringify(text)} for ${JSON.stringify(expected.text)}`);
  }
  if (ended) tally.finished++;
  else if (fate === 'leave' && error === undefined) tally.left++;
  else if (fate === 'cancel' && controller.signal.aborted) tally.cancelled++;
  else if (fate === 'break') tally.broken++;
  else if (fate === 'late' && error instanceof HeartwoodError && error.code === 'DEADLINE_EXCEEDED') tally.late++;
  else {
    tally.failed++;
    tally.problems.push(`${fate}: ${String(error)}`);
  }
}
