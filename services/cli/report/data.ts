/** Everything that the report shows, as data; drawing it needs no model and no service. */
export interface ReportData {
  readonly title: string;
  /** One line under the title: data, budget, machine. */
  readonly summary: string;
  readonly table: { readonly head: readonly string[]; readonly rows: readonly (readonly string[])[] };
  readonly images: readonly ReportImage[];
  /** The grid of patches that the tokens stand for, and the special tokens before them. */
  readonly grid: { readonly rows: number; readonly columns: number; readonly special: number };
  /** The block in which each stage sits, between attention and MLP. */
  readonly stages: readonly number[];
  readonly heads: HeadSensitivity | undefined;
  readonly curve: readonly CurvePoint[];
  /** Facts in the order in which they are shown. */
  readonly facts: readonly (readonly [name: string, value: string])[];
}

/** One image and what became of its tokens. */
export interface ReportImage {
  readonly name: string;
  readonly png: Uint8Array;
  readonly label: string | undefined;
  readonly dense: string;
  readonly pruned: string;
  /** By stage, for every original token (special ones first) the group it is in; −1 where it was dropped. */
  readonly groups: readonly Int32Array[];
}

/** ½h per head: the loss in nats, to second order, of removing it. [layers][heads] */
export interface HeadSensitivity {
  readonly loss: string;
  readonly values: readonly (readonly number[])[];
}

/** One budget: what the model costs and how right it is. */
export interface CurvePoint {
  readonly name: string;
  readonly budget: number | null;
  /** Per sample. */
  readonly flops: number;
  readonly accuracy: number;
}
