import { invalid } from '../errors/error.js';
import { GraphBuilder } from '../onnx/builder.js';
import { gemm } from '../onnx/ops/index.js';
import { encodeModel } from '../onnx/encode.js';
import type { Runtime, Session } from '../runtime/runtime.js';
import type { Probing } from './estimators.js';

/** The most gates of which a full Hessian is made: at 8 bytes an entry it then takes half a gigabyte. */
export const mostInteractions = 8192;

/** Rows that are multiplied at once: enough for the product to run at full speed. */
const rowsAtOnce = 512;

/**
 * The full Hessian over the gates of one kind, summed over samples: Σ left · rightᵀ over samples and probes (over probes the mean,
 * where they are random). The sums are matrix products on the runtime.
 */
export class Interactions {
  private readonly total: Float64Array;
  private readonly left: Float32Array;
  private readonly right: Float32Array;
  private filled = 0;

  private constructor(
    private readonly gates: number,
    private readonly probing: Probing,
    private readonly session: Session,
  ) {
    this.total = new Float64Array(gates * gates);
    this.left = new Float32Array(rowsAtOnce * gates);
    this.right = new Float32Array(rowsAtOnce * gates);
  }

  /** Throws INVALID_ARGUMENT where the matrix would not fit in memory. */
  static async open(runtime: Runtime, kind: string, gates: number, probing: Probing): Promise<Interactions> {
    if (gates > mostInteractions) {
      throw invalid(
        `interactions of ${gates} ${kind} make ${gates}² numbers, expected at most ${mostInteractions} units`,
      );
    }
    return new Interactions(gates, probing, await runtime.load(encodeModel(productGraph(gates))));
  }

  /** One probe of a batch, [batch, gates] each, of which the first `count` samples count. */
  async addProbe(left: Float32Array, right: Float32Array, count: number): Promise<void> {
    for (let slot = 0; slot < count; slot++) {
      if (this.filled === rowsAtOnce) await this.flush();
      const [from, to] = [slot * this.gates, (slot + 1) * this.gates];
      this.left.set(left.subarray(from, to), this.filled * this.gates);
      this.right.set(right.subarray(from, to), this.filled * this.gates);
      this.filled++;
    }
  }

  /** H [gates, gates], symmetric. */
  async result(): Promise<Float64Array> {
    if (this.filled > 0) await this.flush();
    const { gates, total } = this;
    const scale = this.probing.directions === 'signs' ? 1 / this.probing.count : 1;
    const h = new Float64Array(total.length);
    for (let i = 0; i < gates; i++) {
      for (let j = 0; j <= i; j++) {
        const mean = ((total[i * gates + j]! + total[j * gates + i]!) / 2) * scale;
        h[i * gates + j] = mean;
        h[j * gates + i] = mean;
      }
    }
    return h;
  }

  dispose(): Promise<void> {
    return this.session.dispose();
  }

  private async flush(): Promise<void> {
    const dims = [this.filled, this.gates];
    const rows = (data: Float32Array) =>
      ({ type: 'float32', dims, data: data.subarray(0, this.filled * this.gates) }) as const;
    const { product } = await this.session.run({ left: rows(this.left), right: rows(this.right) });
    const data = product!.data as Float32Array;
    for (let i = 0; i < data.length; i++) this.total[i]! += data[i]!;
    this.filled = 0;
  }
}

/** leftᵀ right. */
function productGraph(gates: number) {
  const g = new GraphBuilder('interactions');
  const left = g.input('left', 'float32', ['rows', gates]);
  const right = g.input('right', 'float32', ['rows', gates]);
  return g.build([g.named('product', gemm(g, left, right, undefined, { transA: true }))]);
}
