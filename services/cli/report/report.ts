import { accuracyCurve, headHeatMap } from './charts.js';
import type { ReportData, ReportImage } from './data.js';
import { html, type Html } from './html.js';
import { countGroups, dataUrl, overlay } from './overlay.js';
import { factsOf, renderPage, tableOf } from './page.js';

/** The report as one HTML file that needs nothing else: images and charts are inside, there is no script. */
export function renderReport(data: ReportData): string {
  return renderPage({
    title: data.title,
    summary: data.summary,
    body: [tableOf(data.table), imagesOf(data), headsOf(data), curveOf(data), factsOf(data.facts)],
  });
}

function imagesOf(data: ReportData): Html | undefined {
  if (data.images.length === 0) return undefined;
  return html`<h2>What each stage kept and merged</h2>
    <p>
      Patches of one colour have become one token, at their mass-weighted mean; patches without colour kept a token of
      their own. How many are merged is decided for each image, by the curvature that the model predicts for them.
    </p>
    <div class="images">${data.images.map((image) => figureOf(image, data))}</div>`;
}

function figureOf(image: ReportImage, { grid, stages }: ReportData): Html {
  const url = dataUrl(image.png);
  const strips = image.groups.map((groups, stage) => {
    const { kept, merged, dropped } = countGroups(groups, grid);
    const lost = dropped > 0 ? `, ${dropped} dropped` : '';
    return html`<div>
      ${overlay(url, groups, grid)} in block ${stages[stage]}: ${kept} tokens, ${merged} patches share${lost}
    </div>`;
  });
  const wrong = image.label !== undefined && image.pruned !== image.label;
  return html`<figure>
    <div class="strip">
      <div><img src="${url}" alt="${image.name}" /> ${grid.rows * grid.columns} patches</div>
      ${strips}
    </div>
    <figcaption>
      ${image.name}${image.label === undefined ? '' : `, labelled ${image.label}`}: unpruned says ${image.dense}, pruned
      <span class="${wrong ? 'wrong' : 'right'}">${image.pruned}</span>
    </figcaption>
  </figure>`;
}

function headsOf({ heads }: ReportData): Html | undefined {
  if (heads === undefined || heads.values.length === 0) return undefined;
  return html`<h2>Sensitivity of the heads</h2>
    <p>
      What removing one head costs to second order, ½h, in nats of ${heads.loss} per sample; the colours are
      logarithmic.
    </p>
    <div class="scroll">${headHeatMap(heads)}</div>`;
}

function curveOf({ curve }: ReportData): Html | undefined {
  if (curve.length === 0) return undefined;
  return html`<h2>Accuracy against FLOPs</h2>
    <p>One model file at several budgets (in nats, beside the points), and the unpruned model.</p>
    <div class="scroll">${accuracyCurve(curve)}</div>`;
}
