import type { ProviderName } from './providers/index.js';
import type { RelaySource } from './relay.js';
import type { NumericType, TensorInfo, TensorValue, TypedData } from './tensor.js';

/** What the main thread asks of a worker, which answers one request after the other. The queue is the main thread's. */
export type WorkerRequest =
  | {
      readonly kind: 'load';
      readonly session: number;
      readonly model: string | Uint8Array;
      readonly options: SessionSettings;
    }
  | {
      readonly kind: 'run';
      readonly session: number;
      readonly feeds: Record<string, TensorValue | ViewReference>;
      readonly outputs: readonly string[] | undefined;
      /** What the outputs are written into; only they are fetched then. */
      readonly into?: Record<string, OutputTensor | ViewReference>;
      /** Rows of everything that is bound. */
      readonly rows?: BoundRows;
      /** What a memory's relay is told of the run; its answer takes the outputs' place. */
      readonly relay?: { readonly memory: number; readonly message: unknown };
      /** Made before the run. */
      readonly copies?: { readonly memory: number; readonly rows: readonly RowCopy[] };
    }
  | {
      readonly kind: 'allocate';
      readonly memory: number;
      readonly session: number;
      readonly tensors: ResidentSpec;
      readonly bound: ResidentBinding;
      readonly relay: RelaySource | undefined;
    }
  /** What the runtime was built with. */
  | { readonly kind: 'backends' }
  | { readonly kind: 'free'; readonly memory: number }
  | { readonly kind: 'dispose'; readonly session: number }
  | { readonly kind: 'close' }
  /** The request before it is not wanted any more: where it has not begun it is answered with `withdrawn`. The one message without a reply. */
  | { readonly kind: 'withdraw' };

/** What is answered. */
export type WorkerTask = Exclude<WorkerRequest, { kind: 'withdraw' }>;

/** Tensors that stay in a worker, by name; the first axis are the rows. */
export type ResidentSpec = Readonly<Record<string, { readonly type: NumericType; readonly dims: readonly number[] }>>;

/** Inputs and outputs that are resident tensors in every run, by the tensor's name: a run then says only which rows. */
export interface ResidentBinding {
  readonly inputs: Readonly<Record<string, string>>;
  readonly outputs: Readonly<Record<string, string>>;
}

export interface BoundRows {
  readonly memory: number;
  readonly row: number;
  readonly rows: number;
}

/** Rows of a resident tensor. */
export interface ViewReference {
  readonly memory: number;
  readonly tensor: string;
  readonly row: number;
  readonly rows: number;
}

/** One row of some resident tensors onto another: the first `counts` entries of the given axis, which is not the rows' own. */
export interface RowCopy {
  readonly from: number;
  readonly to: number;
  readonly axis: number;
  readonly counts: Readonly<Record<string, number>>;
}

/** What an output is written into: `data` is used where it is given and has crossed without a copy, else the worker has its own. */
export interface OutputTensor {
  readonly type: NumericType;
  readonly dims: readonly number[];
  readonly data?: Exclude<TypedData, string[]> | undefined;
}

/** Settings of one session as they cross to the worker; what each means is said at SessionOptions. */
export interface SessionSettings {
  readonly optimization: 'disabled' | 'basic' | 'extended' | 'all';
  readonly prepacking: boolean;
  readonly provider: ProviderName;
  /** Whether loading fails where the provider has no kernel for a node, in place of leaving it to the CPU. */
  readonly strict?: boolean;
  readonly profile: string | undefined;
  /** 0: as many as the runtime thinks best. */
  readonly threads: number;
  readonly spinning: boolean;
}

export type WorkerReply =
  | { readonly kind: 'loaded'; readonly inputs: readonly TensorInfo[]; readonly outputs: readonly TensorInfo[] }
  | {
      readonly kind: 'result';
      readonly outputs: Record<string, TensorValue>;
      /** Of the relay, where the run had one. */
      readonly told?: unknown;
      readonly durationMs: number;
    }
  | { readonly kind: 'backends'; readonly names: readonly string[] }
  | { readonly kind: 'done' }
  /** To a run that was taken back before it had begun. */
  | { readonly kind: 'withdrawn' }
  | { readonly kind: 'failed'; readonly message: string };
