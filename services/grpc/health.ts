import type { CallContext } from 'nice-grpc';
import { HeartwoodError } from '../../libs/errors/error.js';
import {
  type HealthCheckRequest,
  HealthCheckResponse_ServingStatus as ServingStatus,
  type HealthServiceImplementation,
} from '../../proto/gen/grpc/health/v1/health.js';

/**
 * The name that is SERVING for as long as the process answers, while it loads and while it stops too: what a liveness probe asks for, so that
 * a model that takes long is no reason to start the process anew.
 */
export const liveness = 'heartwood.live';

/**
 * What the health service answers: '' is the server, which the services go along with; parts (models, versions) have each their own
 * state. But for {@link liveness} nothing is SERVING before `start` and after `stop`.
 */
export class Health {
  #phase: 'starting' | 'serving' | 'stopping' | 'ended' = 'starting';
  #services: readonly string[] = [];
  #parts: ReadonlyMap<string, boolean> = new Map();
  readonly #waiting = new Set<() => void>();

  /** Whether the server takes requests. */
  get serving(): boolean {
    return this.#phase === 'serving';
  }

  /** The full names of the services, once they are known. */
  announce(services: readonly string[]): void {
    this.#services = services;
    this.#wake();
  }

  /** The parts that there are now, by name, and whether each could take a request. A service's name wins over a part's. */
  update(parts: ReadonlyMap<string, boolean>): void {
    this.#parts = new Map(parts);
    this.#wake();
  }

  start(): void {
    if (this.#phase === 'starting') this.#become('serving');
  }

  /** Every name but that of liveness is NOT_SERVING from now on; who watches is told. */
  stop(): void {
    this.#become('stopping');
  }

  /** Ends the watching. */
  end(): void {
    this.#become('ended');
  }

  /** The calls of grpc.health.v1. */
  service(): HealthServiceImplementation {
    return {
      check: async ({ service }) => {
        const status = this.#status(service);
        if (status === undefined) throw new HeartwoodError('NOT_FOUND', `service: nothing here by that name`);
        return { status };
      },
      list: async () => {
        const names = ['', liveness, ...this.#services, ...this.#parts.keys()];
        const statuses = names.map((name) => [name, { status: this.#status(name)! }] as const);
        return { statuses: Object.fromEntries(statuses) };
      },
      watch: (request, context) => this.#watch(request, context),
    };
  }

  async *#watch({ service }: HealthCheckRequest, { signal }: CallContext) {
    let told: ServingStatus | undefined;
    // A reader that is slow is told of what is so when it has read, not of all that was.
    while (!signal.aborted) {
      const status = this.#status(service) ?? ServingStatus.SERVICE_UNKNOWN;
      if (status !== told) {
        told = status;
        yield { status };
      } else if (this.#phase === 'ended') {
        throw new HeartwoodError('UNAVAILABLE', 'the server is stopping');
      } else await this.#change(signal);
    }
  }

  #status(name: string): ServingStatus | undefined {
    if (name === liveness) return this.#phase === 'ended' ? ServingStatus.NOT_SERVING : ServingStatus.SERVING;
    const known = name === '' || this.#services.includes(name);
    const ready = known || this.#parts.get(name);
    if (ready === undefined) return undefined;
    return ready && this.serving ? ServingStatus.SERVING : ServingStatus.NOT_SERVING;
  }

  #become(phase: 'serving' | 'stopping' | 'ended'): void {
    this.#phase = phase;
    this.#wake();
  }

  #wake(): void {
    for (const wake of [...this.#waiting]) wake();
  }

  #change(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        this.#waiting.delete(wake);
        signal.removeEventListener('abort', wake);
        resolve();
      };
      this.#waiting.add(wake);
      signal.addEventListener('abort', wake, { once: true });
    });
  }
}
