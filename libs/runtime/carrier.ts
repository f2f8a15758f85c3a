import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { messageOf } from '../errors/error.js';
import { withHugePages } from './huge-pages.js';

/**
 * What a worker runs in. A thread shares this process's memory and is quick to talk to; what kills a thread alone is an exception
 * or an exhausted JavaScript heap. A fault of native code (a crash inside the runtime, the kernel's out-of-memory killer) ends the
 * whole process, and with it every thread: only a worker that is a process of its own is then the only one to die.
 */
export const isolations = ['thread', 'process'] as const;
export type Isolation = (typeof isolations)[number];

export interface CarrierEvents<Reply> {
  message(reply: Reply): void;
  /** It is gone, or as good as; said at least once, the first reason is the cause. */
  lost(reason: string): void;
  exited(): void;
}

/** A thread or a process that answers messages. */
export interface Carrier<Request> {
  /** The process's number; undefined for a thread. */
  readonly pid: number | undefined;
  /** Buffers on `transfer` move to a thread, and are copied to a process. */
  post(request: Request, transfer: readonly ArrayBuffer[]): void;
  /** Ends a worker in the middle of its work; absent where that would end this process too. */
  kill?(): void;
  /** Keeps this process alive until `unref`. */
  ref(): void;
  unref(): void;
}

/** A worker's data is outside of its JavaScript heap; by default V8 would let each take up to 48 MiB for a few objects a request. */
const maxYoungGenerationSizeMb = 6;

/** @param quiet whether a process's stderr is dropped; a thread's is this process's */
type Start = <Request, Reply>(entry: URL, events: CarrierEvents<Reply>, quiet: boolean) => Carrier<Request>;

export const carriers: Readonly<Record<Isolation, Start>> = { thread: startThread, process: startProcess };

function startThread<Request, Reply>(entry: URL, events: CarrierEvents<Reply>): Carrier<Request> {
  const worker = new Worker(entry, { resourceLimits: { maxYoungGenerationSizeMb } });
  worker.unref();
  worker.on('message', (reply: Reply) => events.message(reply));
  worker.on('error', (error) => events.lost(`failed: ${messageOf(error)}`));
  worker.on('exit', (code) => {
    events.lost(`exited with code ${code}`);
    events.exited();
  });
  return {
    pid: undefined,
    post: (request, transfer) => worker.postMessage(request, [...transfer]),
    ref: () => worker.ref(),
    unref: () => worker.unref(),
  };
}

function startProcess<Request, Reply>(entry: URL, events: CarrierEvents<Reply>, quiet: boolean): Carrier<Request> {
  // Structured clone, so that typed arrays arrive as they are. Its lines on stderr are ours; stdout is for results.
  const child: ChildProcess = fork(fileURLToPath(entry), [], {
    serialization: 'advanced',
    env: withHugePages(process.env),
    stdio: ['ignore', 'ignore', quiet ? 'ignore' : 'inherit', 'ipc'],
  });
  const unref = (): void => {
    child.unref();
    child.channel?.unref();
  };
  unref();
  child.on('message', (reply) => events.message(reply as Reply));
  child.on('error', (error) => {
    events.lost(`failed: ${messageOf(error)}`);
    // One that could not be started has no exit either.
    if (child.pid === undefined) events.exited();
  });
  child.on('exit', (code, signal) => {
    events.lost(signal === null ? `exited with code ${code}` : `was killed by ${signal}`);
    events.exited();
  });
  return {
    pid: child.pid,
    // A message that cannot be sent is to a process that is going, and its exit says so.
    post: (request) => child.send(request as object, () => undefined),
    kill: () => void child.kill('SIGKILL'),
    ref: () => {
      child.ref();
      child.channel?.ref();
    },
    unref,
  };
}
