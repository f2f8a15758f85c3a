import { html, type Html } from './html.js';

export interface Grid {
  readonly rows: number;
  readonly columns: number;
  /** Tokens before those of the patches. */
  readonly special: number;
}

/** What a stage left, for a caption. */
export interface StageCount {
  /** Groups of patches. */
  readonly kept: number;
  /** Patches that share a token with another. */
  readonly merged: number;
  readonly dropped: number;
}

/** Counts the groups of one stage's map, special tokens aside. */
export function countGroups(groups: Int32Array, { special }: Grid): StageCount {
  const sizes = groupSizes(groups, special);
  let merged = 0;
  for (const size of sizes.values()) if (size > 1) merged += size;
  return { kept: sizes.size, merged, dropped: groups.subarray(special).filter((group) => group < 0).length };
}

function groupSizes(groups: Int32Array, special: number): Map<number, number> {
  const sizes = new Map<number, number>();
  for (const group of groups.subarray(special)) if (group >= 0) sizes.set(group, (sizes.get(group) ?? 0) + 1);
  return sizes;
}

const cell = 10;

/**
 * An image with its patches over it as SVG: patches that share a token have one colour and no line between them, a patch that
 * kept its own is left clear, one that was dropped is dark.
 */
export function overlay(image: string, groups: Int32Array, grid: Grid): Html {
  const { rows, columns, special } = grid;
  const sizes = groupSizes(groups, special);
  const hues = new Map([...sizes.keys()].filter((group) => sizes.get(group)! > 1).map((group, i) => [group, hueOf(i)]));
  const groupAt = (row: number, column: number) => groups[special + row * columns + column] ?? -1;
  const fills: Html[] = [];
  let lines = '';
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const group = groupAt(row, column);
      const fill = group < 0 ? '#000' : hues.get(group);
      const opacity = group < 0 ? 0.75 : 0.45;
      const [x, y] = [column * cell, row * cell];
      if (fill !== undefined) {
        fills.push(
          html`<rect x="${x}" y="${y}" width="${cell}" height="${cell}" fill="${fill}" fill-opacity="${opacity}" />`,
        );
      }
      if (column > 0 && groupAt(row, column - 1) !== group) lines += `M${x} ${y}v${cell}`;
      if (row > 0 && groupAt(row - 1, column) !== group) lines += `M${x} ${y}h${cell}`;
    }
  }
  const [width, height] = [columns * cell, rows * cell];
  return html`<svg viewBox="0 0 ${width} ${height}" role="img">
    <image href="${image}" width="${width}" height="${height}" preserveAspectRatio="none" />
    ${fills}
    <path d="${lines}" fill="none" stroke="#fff" stroke-opacity="0.7" stroke-width="0.6" />
  </svg>`;
}

/** Colours far apart for neighbours in the order: steps of the golden angle. */
function hueOf(index: number): string {
  return `hsl(${((index * 137.508) % 360).toFixed(0)} 85% 55%)`;
}

/** An encoded image as a link that carries it. */
export function dataUrl(png: Uint8Array): string {
  return `data:image/png;base64,${Buffer.from(png).toString('base64')}`;
}
