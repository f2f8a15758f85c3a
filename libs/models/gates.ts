import { internal } from '../errors/error.js';
import type { GraphBuilder } from '../onnx/builder.js';
import type { Dim, Value } from '../onnx/ir.js';
import { slice } from '../onnx/ops/index.js';

/**
 * Gates: scalars that multiply one unit and are 1 in the unpruned model, per sample.
 * `heads` multiplies a head's context, `tokens` a token's vector as it enters a block, `masks` the exponential of a token's score as
 * a key in that block and in every later one, `neurons` an MLP neuron after its activation.
 */
export const GATE_KINDS = ['heads', 'tokens', 'masks', 'neurons'] as const;
export type GateKind = (typeof GATE_KINDS)[number];

/** The gates of one kind: the graph's input [batch, Σ units] and how many units each block has. */
export interface GateInput {
  readonly value: Value;
  readonly units: readonly number[];
}

/** All gates of a graph; kinds that nobody asked for are absent. */
export type Gates = ReadonlyMap<GateKind, GateInput>;

/** What says how many gates a network has: its blocks, and the tokens (positions, of a language model) at its entry. */
export interface GatedShape {
  readonly blocks: readonly { readonly heads: number; readonly neurons: number }[];
  readonly tokens: number;
}

/** Units that each block has of a kind. */
export function unitsOf({ blocks, tokens }: GatedShape, kind: GateKind): readonly number[] {
  switch (kind) {
    case 'heads':
      return blocks.map(({ heads }) => heads);
    case 'neurons':
      return blocks.map(({ neurons }) => neurons);
    case 'tokens':
    case 'masks':
      return blocks.map(() => tokens);
  }
}

/** Gates that every sample has for itself; the others are shared by all, and their derivatives are summed. */
export function isPerSample(kind: GateKind): boolean {
  return kind === 'tokens' || kind === 'masks';
}

/** Adds the gates of one kind as an input of the graph that is named as the kind. */
export function gateInput(g: GraphBuilder, kind: GateKind, batch: Dim, units: readonly number[]): GateInput {
  const total = units.reduce((sum, n) => sum + n, 0);
  return { value: g.input(kind, g.float, [batch, total]), units };
}

/** The gates of one block, [batch, units of the block]; undefined when there are none of that kind. */
export function gatesOf(g: GraphBuilder, gates: Gates, kind: GateKind, block: number): Value | undefined {
  const input = gates.get(kind);
  if (!input) return undefined;
  const units = input.units[block];
  if (units === undefined) throw internal(`no ${kind} in block ${block}`);
  const start = input.units.slice(0, block).reduce((sum, n) => sum + n, 0);
  return slice(g, input.value, 1, start, start + units);
}
