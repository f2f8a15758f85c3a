import { HeartwoodError, internal, invalid } from '../errors/error.js';
import type { OutputTensor, ResidentSpec, ViewReference, WorkerReply, WorkerRequest } from './messages.js';
import { checkCopies, checkSpec, isView, ResidentMemory, type ResidentView } from './resident.js';
import type { Feeds, Into, LateRun, RunOptions, Session, TimedRun } from './runtime.js';
import type { Loaded, Slot } from './slot.js';
import type { Prepared } from './worker-queue.js';
import { checkShape, checkTensor, packTensors, type TensorInfo, type TensorValue } from './tensor.js';

type Turn = Pick<RunOptions, 'signal' | 'priority' | 'memory'>;

/** A session on the workers that it was loaded onto. */
export class PinnedSession implements Session {
  readonly inputs: readonly TensorInfo[];
  readonly outputs: readonly TensorInfo[];
  #disposed: Promise<unknown> | undefined;

  constructor(
    private readonly slots: readonly Slot[],
    private readonly id: number,
    loaded: Loaded,
    readonly broken: Promise<HeartwoodError>,
    private readonly memoryId: () => number,
  ) {
    this.inputs = loaded.inputs;
    this.outputs = loaded.outputs;
  }

  get instances(): number {
    return this.slots.length;
  }

  async run(feeds: Feeds, options?: RunOptions): Promise<Record<string, TensorValue>> {
    return (await this.runTimed(feeds, options)).outputs;
  }

  async runTimed(feeds: Feeds, options: RunOptions = {}): Promise<TimedRun> {
    if (!this.#disposed) this.check(feeds, options.outputs, options.into);
    return this.#run(() => ({ feeds, ...options }), options);
  }

  async runLate(make: () => LateRun, options: Turn = {}): Promise<TimedRun> {
    const checked = () => {
      const run = make();
      this.check(run.feeds, run.outputs, run.into);
      return run;
    };
    return this.#run(checked, options);
  }

  async #run(make: () => LateRun, { signal, priority, memory }: Turn): Promise<TimedRun> {
    if (this.#disposed) throw disposed();
    const slot = memory?.slot ?? this.#leastBusy();
    const prepare = () => {
      memory?.check();
      return this.#prepare(make(), slot, memory);
    };
    memory?.check();
    const { reply, queuedMs } = await slot.submit(this.id, prepare, { signal, ...(priority ? { priority } : {}) });
    if (reply.kind === 'failed') throw internal(`the run failed: ${oneLine(reply.message)}`);
    if (reply.kind !== 'result') throw unexpected(reply);
    return { outputs: reply.outputs, durationMs: reply.durationMs, queuedMs };
  }

  #leastBusy(): Slot {
    const whole = this.slots.filter((each) => each.broken(this.id) === undefined);
    return (whole.length > 0 ? whole : this.slots).reduce((best, other) =>
      other.pending < best.pending ? other : best,
    );
  }

  #prepare(
    { feeds, outputs, into, copies, transfer: move = false }: LateRun,
    { isolation }: Slot,
    memory: ResidentMemory | undefined,
  ): Prepared<WorkerRequest> {
    if (copies) checkCopies(memory, copies);
    const [tensors, views] = split(feeds, memory);
    const { packed, transfer } = packTensors(tensors, move);
    const run = { kind: 'run', session: this.id, feeds: { ...packed, ...views }, outputs } as const;
    const targets = into ? targetsOf(into, memory, isolation === 'thread' ? transfer : undefined) : undefined;
    const request = {
      ...run,
      ...(targets ? { into: targets } : {}),
      ...(copies && memory ? { copies: { memory: memory.id, rows: copies } } : {}),
    };
    return { request, transfer };
  }

  async allocate(tensors: ResidentSpec): Promise<ResidentMemory> {
    if (this.#disposed) throw disposed();
    checkSpec(tensors);
    const slot = this.#leastBusy();
    const id = this.memoryId();
    await slot.allocate(id, this.id, tensors);
    return new ResidentMemory(slot, id, tensors);
  }

  async dispose(): Promise<void> {
    this.#disposed ??= Promise.all(this.slots.map((slot) => slot.release(this.id)));
    await this.#disposed;
  }

  check(feeds: Feeds, outputs?: readonly string[], into?: Into): void {
    const symbols = new Map<string, number>();
    for (const info of this.inputs) {
      const value = feeds[info.name];
      if (value === undefined) throw invalid(`input ${info.name} is missing`);
      if (isView(value)) checkShape(info, value, symbols);
      else checkTensor(info, value, symbols);
    }
    for (const name of Object.keys(feeds)) {
      if (!this.inputs.some((info) => info.name === name)) {
        throw invalid(`unknown input ${name}, expected ${this.inputs.map((info) => info.name).join(', ')}`);
      }
    }
    for (const name of [...(outputs ?? []), ...Object.keys(into ?? {})]) {
      if (!this.outputs.some((info) => info.name === name)) {
        throw invalid(`unknown output ${name}, expected ${this.outputs.map((info) => info.name).join(', ')}`);
      }
    }
  }
}

/** Feeds that cross to the worker, and those that are there. */
function split(
  feeds: Feeds,
  memory: ResidentMemory | undefined,
): [Record<string, TensorValue>, Record<string, ViewReference>] {
  const tensors: Record<string, TensorValue> = {};
  const views: Record<string, ViewReference> = {};
  for (const [name, value] of Object.entries(feeds)) {
    if (isView(value)) views[name] = referenceOf(name, value, memory);
    else tensors[name] = value;
  }
  return [tensors, views];
}

/** @param transfer takes the buffers that move; undefined where none can, and then none is sent */
function targetsOf(
  into: Into,
  memory: ResidentMemory | undefined,
  transfer: ArrayBuffer[] | undefined,
): Record<string, OutputTensor | ViewReference> {
  const targets: Record<string, OutputTensor | ViewReference> = {};
  for (const [name, target] of Object.entries(into)) {
    if (isView(target)) {
      targets[name] = referenceOf(name, target, memory);
      continue;
    }
    const { type, dims, data } = target;
    if (data && transfer) transfer.push(data.buffer as ArrayBuffer);
    targets[name] = { type, dims, ...(data && transfer ? { data } : {}) };
  }
  return targets;
}

function referenceOf(name: string, view: ResidentView, memory: ResidentMemory | undefined): ViewReference {
  if (view.memory !== memory) throw invalid(`${name} is a view of another memory than the run's`);
  return view.reference;
}

function disposed(): HeartwoodError {
  return new HeartwoodError('FAILED_PRECONDITION', 'the session is disposed');
}

function unexpected(reply: WorkerReply): HeartwoodError {
  return internal(`the runtime worker answered ${reply.kind} out of turn`);
}

/** An error's text as one line. */
export function oneLine(message: string): string {
  return message.replace(/\s+/g, ' ').trim();
}
