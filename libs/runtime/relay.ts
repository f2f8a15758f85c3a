import type { TensorValue } from './tensor.js';

/**
 * What stands in a worker between two runs of a session: it makes inputs of a run from what the runs before came to, and tells the caller of the
 * run what is worth telling, so that large outputs stay where they are, and a run may be asked for before the one ahead of it has been answered.
 * It belongs to resident memory: made with it, lost and freed with it.
 */
export interface Relay {
  /**
   * The inputs that it feeds to a run. What it throws fails the run.
   * @param message the caller's, of this run
   */
  before(message: unknown): Readonly<Record<string, TensorValue>>;
  /**
   * What the run's caller is told in place of the outputs: what crosses between threads and processes.
   * @param outputs those that are not resident; the next run writes over them
   */
  after(message: unknown, outputs: Readonly<Record<string, TensorValue>>): unknown;
}

/** Where a worker has a relay from. */
export interface RelaySource {
  /** URL of a module that exports `openRelay`. */
  readonly module: string;
  /** The inputs that it feeds in every run. */
  readonly inputs: readonly string[];
}

/** A relay's module. */
export interface RelayModule {
  openRelay(): Relay;
}
