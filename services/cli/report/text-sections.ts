import type { VersionComparison } from '../../server/comparison/result.js';
import { tradeOff, type TradeOffPoint } from './charts.js';
import { positionChart } from './comparison-charts.js';
import { html, type Html } from './html.js';
import { tableOf } from './page.js';
import type { TextShape } from './text-shape.js';

/** What a report says of language models alone; nothing of what was not measured. */
export function textSections(versions: readonly VersionComparison[], shapes: readonly TextShape[]): Html[] {
  if (!versions[0]?.text) return [];
  return [lossOf(versions), bytesOf(versions, shapes), positionsOf(versions), blocksOf(shapes)].flatMap(
    (each) => each ?? [],
  );
}

const lossAxis = {
  name: 'KL to the first, nats a token',
  format: (value: number) => String(Number(value.toPrecision(3))),
};

/** A version that is compared with itself has lost nothing, and stands for the unpruned one. */
function pointsOf(
  versions: readonly VersionComparison[],
  cost: (version: VersionComparison) => number | undefined,
): TradeOffPoint[] {
  return versions.flatMap((each) => {
    const x = cost(each);
    if (each.kl === null || x === undefined) return [];
    return [{ name: `version ${each.version}`, pruned: each.policy !== 'unpruned', x, y: each.kl }];
  });
}

function lossOf(versions: readonly VersionComparison[]): Html | undefined {
  const points = pointsOf(versions, ({ flops }) => flops);
  if (points.length === 0) return undefined;
  return html`<h2>Loss against FLOPs</h2>
    <p>KL to version ${versions[0]!.version} behind the same tokens, against what a text costs, prompt included.</p>
    <div class="scroll">${tradeOff(points, 'FLOPs per text', lossAxis)}</div>`;
}

function bytesOf(versions: readonly VersionComparison[], shapes: readonly TextShape[]): Html | undefined {
  const bytes = new Map(shapes.map(({ version, bytesPerToken }) => [version, bytesPerToken]));
  const points = pointsOf(versions, ({ version }) => bytes.get(version));
  if (points.length === 0) return undefined;
  return html`<h2>Loss against bytes</h2>
    <p>The same against the bytes of weights that a decoded token reads.</p>
    <div class="scroll">${tradeOff(points, 'bytes per token', lossAxis)}</div>`;
}

function positionsOf(versions: readonly VersionComparison[]): Html | undefined {
  const others = versions.slice(1).filter(({ text }) => text!.klByPosition.length > 0);
  if (others.length === 0) return undefined;
  return html`<h2>Loss by position</h2>
    <p>
      Mean KL to version ${versions[0]!.version} of the tokens behind the prompt, by their place: 1 is right behind it.
      Far places have fewer texts where texts end.
    </p>
    <div class="scroll">
      ${positionChart(others.map(({ version, text }) => ({ name: `version ${version}`, values: text!.klByPosition })))}
    </div>`;
}

function blocksOf(shapes: readonly TextShape[]): Html | undefined {
  const pruned = shapes.filter(({ blocks }) =>
    blocks.some(
      ({ heads, headsBefore, neuronsRemoved, bits }) => heads < headsBefore || neuronsRemoved > 0 || bits.length > 0,
    ),
  );
  if (pruned.length === 0) return undefined;
  const head = ['block', ...pruned.flatMap(({ version }) => [`version ${version}: heads`, 'neurons', 'bits'])];
  const rows = pruned[0]!.blocks.map((_, block) => [
    String(block),
    ...pruned.flatMap(({ blocks }) => {
      const { heads, headsBefore, neuronsRemoved, bits } = blocks[block]!;
      return [
        `${heads} of ${headsBefore}`,
        neuronsRemoved === 0 ? 'all' : `${neuronsRemoved} fewer`,
        bits.length === 0 ? '32' : bits.join(', '),
      ];
    }),
  ]);
  return html`<h2>What each block kept</h2>
    <p>Bits are those of the attention's two matrices and the MLP's two.</p>
    ${tableOf({ head, rows })}`;
}
