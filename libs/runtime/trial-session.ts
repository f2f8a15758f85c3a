import { HeartwoodError } from '../errors/error.js';
import { disagreement } from './providers/agreement.js';
import type { ProviderName } from './providers/index.js';
import type { RelaySource } from './relay.js';
import type { ResidentBinding, ResidentMemory, ResidentSpec } from './resident.js';
import type { Feeds, Into, LateRun, RunOptions, Session, TimedRun, Turn } from './runtime.js';
import type { TensorInfo, TensorValue } from './tensor.js';

/** What became of a provider's first run: it failed, or its answer is not the CPU's. */
export type TrialFailure = 'run' | 'answer';

export interface Trial {
  /** Makes the same session on the CPU. */
  onCpu(): Promise<Session>;
  /** Told that it takes the provider's place; what it throws, the run throws, and the provider's session stays. */
  failed(at: TrialFailure, reason: string): void;
}

/**
 * A session on a provider that made it, and has yet to show that it can run it: kernels are compiled, and memory is taken, at the first run, and a
 * kernel may be wrong. So the first run that succeeds is made on the CPU too. If the two agree, the CPU's session goes; if they do not, or the run fails, the
 * provider's goes, and the CPU answers, then and from there on.
 */
export class TrialSession implements Session {
  readonly broken: Promise<HeartwoodError>;
  #current: Session;
  #proven = false;
  /** The verdict that is being reached, which further runs wait for: rejected where a failure is not taken. */
  #verdict: Promise<void> | undefined;
  #disposed = false;
  #broke: (reason: HeartwoodError) => void = () => undefined;

  constructor(
    first: Session,
    private readonly trial: Trial,
  ) {
    this.#current = first;
    this.broken = new Promise((resolve) => (this.#broke = resolve));
    void this.#watch(first);
  }

  get inputs(): readonly TensorInfo[] {
    return this.#current.inputs;
  }

  get outputs(): readonly TensorInfo[] {
    return this.#current.outputs;
  }

  get instances(): number {
    return this.#current.instances;
  }

  get provider(): ProviderName {
    return this.#current.provider;
  }

  async run(feeds: Feeds, options?: RunOptions): Promise<Record<string, TensorValue>> {
    return (await this.runTimed(feeds, options)).outputs;
  }

  async runTimed(feeds: Feeds, options: RunOptions = {}): Promise<TimedRun> {
    if (this.#proven) return this.#current.runTimed(feeds, options);
    // What is moved to the worker could not be run again.
    const kept = { ...options, transfer: false };
    return this.#tried((session) => session.runTimed(feeds, kept));
  }

  async runLate(make: () => LateRun, options: Turn = {}): Promise<TimedRun> {
    if (this.#proven) return this.#current.runLate(make, options);
    let made: LateRun | undefined;
    // Made once: what a scheduler has taken from its queue it would not find there again.
    const makeOnce = () => (made ??= { ...make(), transfer: false });
    return this.#tried((session) => session.runLate(makeOnce, options));
  }

  allocate(tensors: ResidentSpec, bound?: ResidentBinding, relay?: RelaySource): Promise<ResidentMemory> {
    return this.#current.allocate(tensors, bound, relay);
  }

  check(feeds: Feeds, outputs?: readonly string[], into?: Into): void {
    this.#current.check(feeds, outputs, into);
  }

  async dispose(): Promise<void> {
    this.#disposed = true;
    await this.#verdict?.catch(() => undefined);
    await this.#current.dispose();
  }

  async #tried(run: (session: Session) => Promise<TimedRun>): Promise<TimedRun> {
    const tried = this.#current;
    let answered: TimedRun | undefined;
    let reason: string | undefined;
    try {
      answered = await run(tried);
    } catch (thrown) {
      if (this.#disposed || !isFault(thrown)) throw thrown;
      reason = thrown.message;
    }
    // Of runs side by side the first to end is the trial's.
    await (this.#verdict ??= this.#judge(run, answered, reason));
    if (this.#current !== tried) return run(this.#current);
    return answered ?? run(tried);
  }

  async #judge(
    run: (session: Session) => Promise<TimedRun>,
    answered: TimedRun | undefined,
    reason: string | undefined,
  ): Promise<void> {
    const failing = this.#current;
    const reference = await this.trial.onCpu();
    try {
      // A run that fails there too is the caller's affair, and says nothing of the provider.
      const { outputs } = await run(reference);
      const fault = answered ? disagreement(outputs, answered.outputs) : reason;
      if (fault !== undefined) this.trial.failed(answered ? 'answer' : 'run', fault);
      this.#proven = true;
      if (fault !== undefined) this.#current = reference;
    } catch (thrown) {
      this.#verdict = undefined;
      await reference.dispose();
      throw thrown;
    }
    if (this.#current === reference) void this.#watch(reference);
    await (this.#current === reference ? failing : reference).dispose();
  }

  async #watch(session: Session): Promise<void> {
    const reason = await session.broken;
    if (this.#current === session) this.#broke(reason);
  }
}

/** What a provider may be to blame for: that the run failed, or took its worker along. */
function isFault(thrown: unknown): thrown is HeartwoodError {
  return thrown instanceof HeartwoodError && (thrown.code === 'INTERNAL' || thrown.code === 'UNAVAILABLE');
}
