import type { HeartwoodError } from '../../../libs/errors/error.js';
import type { ProviderName } from '../../../libs/runtime/providers/index.js';
import type { Session } from '../../../libs/runtime/runtime.js';
import type { Manifest } from '../../../libs/store/manifest.js';

/** What every loaded version is, whatever its task. Requests hold it while they are worked on; it is disposed when it is retired and the last one has ended. */
export abstract class LoadedVersion<M extends Manifest> {
  #active = 0;
  #idle: (() => void) | undefined;

  protected constructor(
    readonly manifest: M,
    protected readonly session: Session,
  ) {}

  get task(): M['task'] {
    return this.manifest.task;
  }

  get model(): string {
    return this.manifest.model;
  }

  get version(): number {
    return this.manifest.version;
  }

  /** Runs of it that go side by side at most. */
  get instances(): number {
    return this.session.instances;
  }

  /** What runs it. */
  get provider(): ProviderName {
    return this.session.provider;
  }

  /** Settles, with the reason, when its workers died and none could load it again. */
  get broken(): Promise<HeartwoodError> {
    return this.session.broken;
  }

  /** Calls that hold the version now, from their arrival to their answer. */
  get active(): number {
    return this.#active;
  }

  /** Calls that wait to begin. */
  abstract readonly waiting: number;
  /** Calls that have begun. */
  abstract readonly running: number;
  /** How long the call that has waited longest has, 0 where none waits; undefined where nobody keeps count. */
  abstract readonly oldestWaitingMs: number | undefined;

  /** Runs `work` and keeps the version loaded until it has settled. */
  async hold<T>(work: () => Promise<T>): Promise<T> {
    const release = this.acquire();
    try {
      return await work();
    } finally {
      release();
    }
  }

  /** Keeps the version loaded until the function that it returns is called: for answers that come in pieces. */
  acquire(): () => void {
    let held = true;
    this.#active++;
    return () => {
      if (!held) return;
      held = false;
      this.#active--;
      if (this.#active === 0) this.#idle?.();
    };
  }

  /** Waits for the requests that hold the version, then frees what it has. */
  async retire(): Promise<void> {
    if (this.#active > 0) await new Promise<void>((resolve) => (this.#idle = resolve));
    await this.free();
  }

  protected abstract free(): Promise<void>;
}
