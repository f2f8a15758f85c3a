import type { InferenceSession } from 'onnxruntime-node';

/** What runs the operators of a session: ONNX Runtime's own kernels on the CPU, or another library on an accelerator. Data; a file each. */
export interface Provider {
  /** As the runtime wants it said, first choice first. Operators that none of them has a kernel for run on the CPU. */
  readonly executionProviders: readonly InferenceSession.ExecutionProviderConfig[];
  /** What it needs of the machine, for whoever reads that it is not there. */
  readonly needs: string;
  /** Milliseconds that its probe may take. */
  readonly probeLimitMs: number;
  /** Why `auto` never takes it; absent where it may. */
  readonly onlyByName?: string;
  /** What it is not used for, and why: one line each, for warnings and refusals. */
  readonly cannot: Cannot;
}

export interface Cannot {
  /** Graphs that write into tensors which they were fed with: the caches of a language model that generates. */
  readonly inPlaceCaches?: string;
  /** Shapes that are known at run time alone: such a graph runs, but had better have fixed ones. */
  readonly dynamicShapes?: string;
}

/**
 * A generation graph's caches are tensors of the host: past and present are one buffer, which the CPU's kernel writes in place. A provider with memory
 * of its own gets a copy of what it is fed, and its present would never reach the past of the next step.
 */
export const hostCaches =
  'its caches are written in place in memory of the host, which is verified on the cpu provider alone';
