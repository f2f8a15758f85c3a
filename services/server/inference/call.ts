import type { InferenceRun } from './record.js';
import type { Trace } from './trace.js';
import type { ServedClassifier } from '../catalog/served-version.js';
import type { TensorValue } from '../../../libs/runtime/tensor.js';
import type { WireTensor } from './wire-tensor.js';

/** What a call is for: a client's own, or measuring versions side by side. */
export type CallPurpose = 'client' | 'comparison';

/** What a caller asks for, whichever protocol it came by. */
export interface InferenceCall {
  readonly model: string;
  /** '' stands for the default. */
  readonly version: string;
  /** What its caller knows it by. */
  readonly trace?: Trace | undefined;
  /** What it is for; the calls of a comparison are no live data, and are not shadowed. Default 'client'. */
  readonly purpose?: CallPurpose;
  /**
   * Reads the rest when the version is known, so that a bad one counts for it. The memory of the tensors is the call's from then on: it is
   * freed once they have run. Throws INVALID_ARGUMENT naming the field.
   */
  contents(): CallContents;
}

export interface CallContents {
  readonly inputs: ReadonlyMap<string, WireTensor>;
  /** Names; empty: all. */
  readonly outputs: readonly string[];
  /** Nats per sample, for all samples; an input `budget` wins over it. */
  readonly budget?: number | undefined;
  /** 1 is served first, greater numbers later; the server's middle one where it is absent. */
  readonly priority?: number | undefined;
  /** Milliseconds from the call's arrival after which its answer is of no use: a call that has not begun by then is refused. */
  readonly timeoutMs?: number | undefined;
}

/** What a call came to. */
export interface InferenceAnswer {
  readonly served: ServedClassifier;
  /** The outputs that were asked for, in that order. */
  readonly outputs: readonly { readonly name: string; readonly value: TensorValue }[];
  readonly run: InferenceRun;
  /** Milliseconds that the call waited for its run. */
  readonly queueMs: number;
  /** The call's, as its result has them; undefined without a meter. */
  readonly joules?: Promise<number | undefined> | undefined;
}
