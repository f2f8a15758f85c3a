/** What the engine has to know of a graph that libs/models/generation-graph.ts made; the manifest has it. */
export interface GenerationModel {
  /** Tokens of logits. */
  readonly vocabulary: number;
  /** Positions that the model was made for. */
  readonly context: number;
  /** By block; a pruned model's blocks differ. */
  readonly caches: readonly { readonly heads: number; readonly width: number }[];
  /** Blocks before which a token stage stands, ascending: each begins a cache group of its own lengths. */
  readonly stages: readonly number[];
  /** Prompt tokens of one run that the stages were calibrated with; the plans' own where it is absent. */
  readonly stageChunk?: number | undefined;
  /** Whether the products of the graph are convolutions (libs/onnx/blocked-products.ts). */
  readonly convolves?: boolean;
  /** Any of them ends a text. */
  readonly eosIds: readonly number[];
  /** Nats, for requests that name none; undefined without stages. */
  readonly budget?: number | undefined;
}
