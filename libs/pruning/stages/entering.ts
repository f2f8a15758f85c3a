import { padTokens, type Packing, type Seam } from '../../models/tokens.js';
import type { GraphBuilder } from '../../onnx/builder.js';
import type { Dim, Value } from '../../onnx/ir.js';
import {
  add,
  clip,
  dimOf,
  greater,
  less,
  log,
  matMul,
  reshape,
  sliceBy,
  softmax,
  split,
} from '../../onnx/ops/index.js';
import { fixed } from '../../onnx/shapes.js';
import { leastTokens } from './parameters.js';

/**
 * The tokens as they enter a stage, in the padded view [batch, longest] that it decides in. The tokens of a sample are its first
 * `count` places. What is said of places are *rows*, [batch, 1, longest], or *columns*, [batch, longest, 1], so that they broadcast
 * over matrices of pairs as they are; places and counts are floats, whose kernels are the quicker ones. Where nothing has been merged
 * yet what is the same for every sample has a batch of 1 and is constant.
 */
export interface Entering {
  readonly seam: Seam;
  readonly longest: Dim;
  /** D. */
  readonly width: number;
  readonly special: number;
  /** True while every sample has all of its tokens, of mass 1. */
  readonly uniform: boolean;
  /** Row: 0, 1, … */
  readonly places: Value;
  /**
   * Row: the place of a candidate of a matching may be merged away in a sample of more than so many tokens; farther than any count
   * where none may.
   */
  readonly needed: Value;
  /** [batch | 1, 1, 1]: tokens present, special ones included. */
  readonly count: Value;
  /** Row: 0 where there is none. */
  readonly mass: Value;
  /** Row: 0, and far below zero at the places of special tokens. */
  readonly specials: Value;
  /** Row: 0 for a patch token, else far below zero (where there is none, and special ones). */
  readonly penalty: Value;
  /** Row of bool. */
  readonly present: Value;
  /** Row of bool: present and not special. */
  readonly patches: Value;
}

/** Stands for −∞ in penalties: it is no number among distances, and its square and its products with zero are still numbers. */
export const farBelow = -1e12;
/** More tokens than any sample has. */
const beyondCount = 1e9;

export function entering(g: GraphBuilder, seam: Seam): Entering {
  const { layout, rows } = seam.tokens;
  const { longest, full, special, packed } = layout;
  const width = fixed(rows.shape[1], 'the width of a token');
  const common = { seam, longest, width, special, uniform: !packed };
  const places = [...Array(full).keys()];
  const needed = places.map((place) => neededFor(place, special));
  const hindered = places.map((place) => (place < special ? farBelow : 0));
  const view = packed
    ? packedView(g, packed, longest, [places, needed, hindered])
    : uniformView(g, [places, needed, hindered]);
  const present = packed ? greater(g, view.mass, g.constant(0)) : less(g, view.places, view.count);
  return { ...common, ...view, present, patches: greater(g, view.penalty, g.constant(farBelow / 2)) };
}

type View = Pick<Entering, 'places' | 'needed' | 'count' | 'mass' | 'specials' | 'penalty'>;
/** Of all places that a sample may have: themselves, the counts that they need as candidates, the penalties of special tokens. */
type Tables = readonly [readonly number[], readonly number[], readonly number[]];

function uniformView(g: GraphBuilder, tables: Tables): View {
  const full = tables[0].length;
  const [places, needed, specials] = tables.map((table) => g.constant(table, [1, 1, full]));
  const mass = g.constant(Array<number>(full).fill(1), [1, 1, full]);
  const count = g.constant(full, [1, 1, 1]);
  return { places: places!, needed: needed!, specials: specials!, penalty: specials!, mass, count };
}

function packedView(g: GraphBuilder, { mass, count }: Packing, longest: Dim, tables: Tables): View {
  const [places, needed, specials] = firstPlaces(g, mass, longest, tables);
  return {
    places: places!,
    needed: needed!,
    count,
    mass,
    specials: specials!,
    penalty: clip(g, logPatchMass(g, mass, specials!), farBelow, 0),
  };
}

/** The tables of as many places as there are, rows. */
function firstPlaces(g: GraphBuilder, mass: Value, longest: Dim, tables: Tables): Value[] {
  if (typeof longest === 'number') return tables.map((table) => g.constant(table.slice(0, longest), [1, 1, longest]));
  const constants = g.constant(tables.flat(), [1, tables.length, tables[0].length]);
  const present = sliceBy(g, constants, 2, g.integers([0]), dimOf(g, mass, 2), longest);
  return split(g, present, 1, [1, 1, 1]);
}

/** log n of a patch token (a row): 0 and more; far below for a special token, −∞ where there is none. Attention has the same logarithm. */
function logPatchMass(g: GraphBuilder, mass: Value, specials: Value): Value {
  return add(g, log(g, mass), specials);
}

/**
 * Candidates are patch tokens at even places, and of them as many as may go: place < first + 2 (count − least), where `first` is the
 * first such place. A sample of more than `neededFor(place)` tokens therefore has a candidate there.
 */
function neededFor(place: number, special: number): number {
  const first = special + (special % 2);
  if (place % 2 === 1 || place < first) return beyondCount;
  return Math.max(place, Math.max(leastTokens, special + 1) + (place - first) / 2);
}

/** Weights over the patch tokens that add up to 1 in every sample, by mass or each alike: a row. */
export function patchShares(
  g: GraphBuilder,
  { seam, uniform, specials, penalty, mass }: Entering,
  by: 'mass' | 'count',
): Value {
  const { full, special, packed } = seam.tokens.layout;
  if (uniform || !packed) {
    const shares = Array.from({ length: full }, (_, place) => (place < special ? 0 : 1 / (full - special)));
    return g.constant(shares, [1, 1, full]);
  }
  // exp(log n) / Σ exp(log n)
  return softmax(g, by === 'mass' ? logPatchMass(g, mass, specials) : penalty);
}

/** Σ_i share_i v_i: values [batch, longest, k] → [batch, 1, k]. */
export function average(g: GraphBuilder, shares: Value, values: Value): Value {
  return matMul(g, shares, values);
}

/** Matrices [D, width_k] side by side, [D, Σ width_k]. */
export function sideBySide(matrices: readonly Float32Array[], rows: number): Float32Array {
  const total = matrices.reduce((sum, matrix) => sum + matrix.length, 0) / rows;
  const joined = new Float32Array(rows * total);
  let from = 0;
  for (const matrix of matrices) {
    const width = matrix.length / rows;
    for (let row = 0; row < rows; row++) {
      joined.set(matrix.subarray(row * width, (row + 1) * width), row * total + from);
    }
    from += width;
  }
  return joined;
}

/** Rows [rows, k] → [batch, longest, k]. */
export function padded(g: GraphBuilder, { seam }: Entering, rows: Value): Value {
  return padTokens(g, seam.tokens.layout, rows);
}

/** A column [batch, longest, 1] as a row [batch, 1, longest]. */
export function asRow(g: GraphBuilder, column: Value): Value {
  return reshape(g, column, [column.shape[0]!, 1, column.shape[1]!]);
}

/** A row [batch, 1, longest] as a column [batch, longest, 1]. */
export function asColumn(g: GraphBuilder, row: Value): Value {
  return reshape(g, row, [row.shape[0]!, row.shape[2]!, 1]);
}

/** A row [batch, 1, longest] → [batch, longest]. */
export function flat(g: GraphBuilder, row: Value): Value {
  return reshape(g, row, [row.shape[0]!, row.shape[2]!]);
}
