/** The energy meter of this machine: read in a thread of its own, so that slow registers hold up nobody. */
import { Worker } from 'node:worker_threads';
import { HeartwoodError, invalid, messageOf } from '../errors/error.js';
import { longestPauseMs } from './integrator.js';
import { type MeterChoice, meterChoices, type MeterName } from './meters/index.js';
import { monotonicMs } from './meters/source.js';
import { type EnergySample, type SamplerMessage, type SamplerRequest, type SamplerSettings, TOTAL } from './sample.js';

/** A read of an INA3221 takes milliseconds: more often it would measure itself. */
export const highestSampleHz = 100;

export interface MeterOptions {
  /** Default: auto, the first meter that is found. */
  readonly meter?: MeterChoice;
  /** Readings a second, 100 at most. Default 20. */
  readonly sampleHz?: number;
  /** Where `/sys` is. Default `/`. */
  readonly root?: string;
  /** Told in a line each: rails that are left out, what fails later, why there is no meter. */
  readonly report?: (problem: string) => void;
}

/** Counts the energy that the machine has taken since the meter was opened. */
export interface EnergyMeter {
  readonly name: MeterName;
  /** The rails that can be read, without the total. */
  readonly rails: readonly string[];
  /** Whether what the machine takes as a whole is known. */
  readonly total: boolean;
  /** The last sample; undefined before the first. */
  readonly latest: EnergySample | undefined;
  /**
   * Joules of the machine from the opening to this moment. They are known with the next reading, between which and the one before the
   * moment lies. Undefined where that reading does not come, or the meter has no total.
   */
  joules(): Promise<number | undefined>;
  /** Hears of every sample from now on, until the function that it returns is called. */
  subscribe(listener: (sample: EnergySample) => void): () => void;
  /** Ends the thread. What is asked of it and afterwards is undefined. */
  close(): Promise<void>;
  /** Settles when no sample will come any more: closed, or the thread failed. */
  readonly ended: Promise<void>;
}

/**
 * Opens the energy meter of this machine; undefined where none can be read (a virtual machine, no right to), or none is wanted. It
 * does not keep the process alive. Throws INVALID_ARGUMENT (an option), FAILED_PRECONDITION (a meter that was named is not there).
 */
export async function openEnergyMeter(options: MeterOptions = {}): Promise<EnergyMeter | undefined> {
  const { meter: choice = 'auto', sampleHz = 20, root = '/', report = () => undefined } = options;
  if (!meterChoices.includes(choice)) throw invalid(`energy meter ${choice}: expected ${meterChoices.join(', ')}`);
  if (!(sampleHz > 0 && sampleHz <= highestSampleHz))
    throw invalid(`${sampleHz} energy samples a second: expected more than 0, ${highestSampleHz} at most`);
  if (choice === 'none') return undefined;
  const clockOffset = monotonicMs() - performance.now();
  const workerData: SamplerSettings = { choice, sampleHz, root, clockOffset };
  const worker = new Worker(new URL('./sampler.js', import.meta.url), { workerData });
  const opened = await new Promise<SampledMeter | readonly string[]>((resolve, reject) => {
    worker.once('error', reject);
    worker.once('message', (message: SamplerMessage) => {
      worker.removeListener('error', reject);
      // The meter listens before the next message is there.
      if (message.kind === 'opened') resolve(new SampledMeter(worker, message, report));
      else resolve(message.kind === 'absent' ? message.reasons : []);
    });
  });
  if (opened instanceof SampledMeter) return opened;
  if (choice !== 'auto')
    throw new HeartwoodError('FAILED_PRECONDITION', `energy meter ${choice}: ${opened.join('; ')}`);
  for (const reason of opened) report(reason);
  return undefined;
}

/** What was taken from one answer of `joules()` to a later one; undefined where either is not known. */
export async function joulesBetween(
  before: Promise<number | undefined> | undefined,
  after: Promise<number | undefined> | undefined,
): Promise<number | undefined> {
  const [start, end] = await Promise.all([before, after]);
  return start === undefined || end === undefined ? undefined : end - start;
}

/** Somebody who wants to know the total of a moment. */
interface Mark {
  readonly time: number;
  readonly resolve: (joules: number | undefined) => void;
}

class SampledMeter implements EnergyMeter {
  readonly name: MeterName;
  readonly rails: readonly string[];
  readonly total: boolean;
  latest: EnergySample | undefined;
  /** In the order of their times. */
  #marks: Mark[] = [];
  #listeners = new Set<(sample: EnergySample) => void>();
  /** Where the last interval of the total ended. */
  #counted: { time: number; joules: number } | undefined;
  #ended = false;
  readonly ended: Promise<void>;

  constructor(
    private readonly worker: Worker,
    opened: SamplerMessage & { kind: 'opened' },
    report: (problem: string) => void,
  ) {
    this.name = opened.name;
    this.rails = opened.rails;
    this.total = opened.total;
    for (const problem of opened.problems) report(problem);
    worker.unref();
    worker.on('message', (message: SamplerMessage) => {
      if (message.kind === 'sample') this.#take(message.sample);
      else if (message.kind === 'problem') report(message.message);
    });
    worker.on('error', (error) => report(`the energy meter failed: ${messageOf(error)}`));
    this.ended = new Promise((resolve) => {
      worker.on('exit', () => {
        this.#end();
        resolve();
      });
    });
  }

  joules(): Promise<number | undefined> {
    if (this.#ended || !this.total) return Promise.resolve(undefined);
    return new Promise((resolve) => {
      this.#marks.push({ time: performance.now(), resolve });
      // Who waits for an answer shall get it, also when nothing else is left to do.
      this.worker.ref();
      this.#ask('read');
    });
  }

  subscribe(listener: (sample: EnergySample) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  async close(): Promise<void> {
    if (!this.#ended) {
      this.#end();
      this.worker.ref();
      this.#ask('close');
    }
    await this.ended;
  }

  #ask(request: SamplerRequest): void {
    this.worker.postMessage(request);
  }

  #take(sample: EnergySample): void {
    if (this.#ended) return;
    this.latest = sample;
    this.#answer(sample);
    for (const listener of this.#listeners) listener(sample);
  }

  /** Answers the marks that lie before a sample, between this and the one before. */
  #answer({ time, joules, since }: EnergySample): void {
    const last = this.#counted;
    const total = joules[TOTAL];
    const read = since !== undefined && total !== undefined;
    if (read) this.#counted = { time, joules: total };
    const waiting: Mark[] = [];
    for (const mark of this.#marks) {
      if (mark.time > time) waiting.push(mark);
      else if (read) mark.resolve(at(mark.time, since, last?.joules ?? 0, time, total));
      // Without a total in this sample the next may bring it, but not after a pause that is not bridged.
      else if (time - mark.time <= longestPauseMs) waiting.push(mark);
      else mark.resolve(undefined);
    }
    this.#marks = waiting;
    if (waiting.length === 0) this.worker.unref();
  }

  #end(): void {
    this.#ended = true;
    for (const { resolve } of this.#marks.splice(0)) resolve(undefined);
  }
}

/** On the line from (t₀, e₀) to (t₁, e₁); before t₀ it is e₀. */
const at = (time: number, t0: number, e0: number, t1: number, e1: number): number =>
  t1 > t0 ? e0 + (e1 - e0) * Math.min(1, Math.max(0, (time - t0) / (t1 - t0))) : e1;
