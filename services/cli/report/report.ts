import { accuracyCurve, headHeatMap } from './charts.js';
import type { ReportData, ReportImage } from './data.js';
import { html, Html } from './html.js';
import { countGroups, dataUrl, overlay } from './overlay.js';

const style = new Html(`
:root { color-scheme: light; font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; }
body { max-width: 1100px; margin: 0 auto; padding: 1.5rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.5rem; }
p { max-width: 46rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { padding: .25rem .8rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
.images { display: grid; grid-template-columns: repeat(auto-fill, minmax(460px, 1fr)); gap: 1.2rem; }
figure { margin: 0; padding: .6rem; border: 1px solid #ddd; border-radius: 6px; }
.strip { display: flex; gap: .5rem; }
.strip > div { flex: 1; min-width: 0; font-size: .78rem; color: #555; text-align: center; }
.strip svg, .strip img { width: 100%; display: block; image-rendering: pixelated; }
figcaption { margin-top: .4rem; font-size: .85rem; }
.wrong { color: #b30000; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; } dd { margin: 0; overflow-wrap: anywhere; }
svg text { font-family: sans-serif; }
`);

/** The report as one HTML file that needs nothing else: images and charts are inside, there is no script. */
export function renderReport(data: ReportData): string {
  const document = html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta
          http-equiv="Content-Security-Policy"
          content="default-src 'none'; img-src data:; style-src 'unsafe-inline'"
        />
        <title>${data.title}</title>
        <style>
          ${style}
        </style>
      </head>
      <body>
        <h1>${data.title}</h1>
        <p>${data.summary}</p>
        ${tableOf(data.table)} ${imagesOf(data)} ${headsOf(data)} ${curveOf(data)} ${factsOf(data)}
      </body>
    </html> `;
  return document.text;
}

function tableOf({ head, rows }: ReportData['table']): Html {
  return html`<div class="scroll">
    <table>
      <thead>
        <tr>
          ${head.map((cell) => html`<th>${cell}</th>`)}
        </tr>
      </thead>
      <tbody>
        ${rows.map(
          (row) =>
            html`<tr>
              ${row.map((cell) => html`<td>${cell}</td>`)}
            </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
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

function factsOf({ facts }: ReportData): Html {
  return html`<h2>How this was made</h2>
    <dl>
      ${facts.map(
        ([name, value]) =>
          html`<dt>${name}</dt>
            <dd>${value}</dd>`,
      )}
    </dl>`;
}
