import { HeartwoodError, internal, invalid } from '../errors/error.js';
import type {
  OutputTensor,
  ResidentBinding,
  ResidentSpec,
  ViewReference,
  WorkerReply,
  WorkerRequest,
} from './messages.js';
import { checkCopies, checkSpec, isView, ResidentMemory, type ResidentView, unbound } from './resident.js';
import { checkRun } from './check-run.js';
import { oneLine } from './one-line.js';
import type { ProviderName } from './providers/index.js';
import type { RelaySource } from './relay.js';
import type { Feeds, Into, LateRun, RunOptions, Session, TimedRun, Turn } from './runtime.js';
import type { Loaded, Slot } from './slot.js';
import type { Prepared } from './worker-queue.js';
import { checkShape, packTensors, type TensorInfo, type TensorValue } from './tensor.js';

/** A session on the workers that it was loaded onto. */
export class PinnedSession implements Session {
  readonly inputs: readonly TensorInfo[];
  readonly outputs: readonly TensorInfo[];
  #disposed: Promise<unknown> | undefined;

  constructor(
    private readonly slots: readonly Slot[],
    private readonly id: number,
    loaded: Loaded,
    readonly provider: ProviderName,
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
    if (!this.#disposed) this.#check({ feeds, ...options }, options.memory);
    return this.#run(() => ({ feeds, ...options }), options);
  }

  async runLate(make: () => LateRun, options: Turn = {}): Promise<TimedRun> {
    const checked = () => {
      const run = make();
      this.#check(run, options.memory);
      return run;
    };
    return this.#run(checked, options);
  }

  async #run(make: () => LateRun, { memory, ...turn }: Turn): Promise<TimedRun> {
    if (this.#disposed) throw disposed();
    const slot = memory?.slot ?? this.#leastBusy();
    const prepare = () => {
      memory?.check();
      return this.#prepare(make(), slot, memory);
    };
    memory?.check();
    const { reply, queuedMs } = await slot.submit(this.id, prepare, turn);
    if (reply.kind === 'failed') throw internal(`the run failed: ${oneLine(reply.message)}`);
    if (reply.kind !== 'result') throw unexpected(reply);
    return { outputs: reply.outputs, told: reply.told, durationMs: reply.durationMs, queuedMs };
  }

  #leastBusy(): Slot {
    const whole = this.slots.filter((each) => each.broken(this.id) === undefined);
    return (whole.length > 0 ? whole : this.slots).reduce((best, other) =>
      other.pending < best.pending ? other : best,
    );
  }

  #prepare(
    { feeds, outputs, into, rows, relay, copies, transfer: move = false }: LateRun,
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
      ...(rows && memory ? { rows: { memory: memory.id, row: rows.first, rows: rows.count } } : {}),
      ...(relay !== undefined && memory ? { relay: { memory: memory.id, message: relay } } : {}),
      ...(copies && memory ? { copies: { memory: memory.id, rows: copies } } : {}),
    };
    return { request, transfer };
  }

  async allocate(
    tensors: ResidentSpec,
    bound: ResidentBinding = unbound,
    relay?: RelaySource,
  ): Promise<ResidentMemory> {
    if (this.#disposed) throw disposed();
    checkSpec(tensors);
    checkBinding(this.inputs, bound.inputs, tensors);
    checkBinding(this.outputs, bound.outputs, tensors);
    const slot = this.#leastBusy();
    const id = this.memoryId();
    await slot.allocate(id, this.id, tensors, bound, relay);
    return new ResidentMemory(slot, id, tensors, bound, relay);
  }

  async dispose(): Promise<void> {
    this.#disposed ??= Promise.all(this.slots.map((slot) => slot.release(this.id)));
    await this.#disposed;
  }

  check(feeds: Feeds, outputs?: readonly string[], into?: Into): void {
    this.#check({ feeds, ...(outputs ? { outputs } : {}), ...(into ? { into } : {}) }, undefined);
  }

  #check(run: LateRun, memory: ResidentMemory | undefined): void {
    checkRun(this, run, memory);
  }
}

/** Throws INVALID_ARGUMENT for what cannot be bound. */
function checkBinding(
  infos: readonly TensorInfo[],
  bound: Readonly<Record<string, string>>,
  tensors: ResidentSpec,
): void {
  for (const [name, tensor] of Object.entries(bound)) {
    const info = infos.find((each) => each.name === name);
    const spec = tensors[tensor];
    if (info === undefined || spec === undefined)
      throw invalid(`${name} is bound to ${tensor}, expected an input or output and a resident tensor`);
    checkShape(info, spec, new Map());
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
