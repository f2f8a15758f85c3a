import { html, Html } from './html.js';

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

/** A page of a report. */
export interface Page {
  readonly title: string;
  /** One line under the title. */
  readonly summary: string;
  readonly body: readonly (Html | undefined)[];
}

/** A page as one HTML file that needs nothing else: images and charts are inside, there is no script. */
export function renderPage({ title, summary, body }: Page): string {
  return html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta
          http-equiv="Content-Security-Policy"
          content="default-src 'none'; img-src data:; style-src 'unsafe-inline'"
        />
        <title>${title}</title>
        <style>
          ${style}
        </style>
      </head>
      <body>
        <h1>${title}</h1>
        <p>${summary}</p>
        ${body}
      </body>
    </html> `.text;
}

/** Cells of text: a head, and rows of the same length. */
export interface Table {
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

export function tableOf({ head, rows }: Table): Html {
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

/** Facts in the order in which they are shown. */
export function factsOf(facts: readonly (readonly [name: string, value: string])[]): Html {
  return html`<h2>How this was made</h2>
    <dl>
      ${facts.map(
        ([name, value]) =>
          html`<dt>${name}</dt>
            <dd>${value}</dd>`,
      )}
    </dl>`;
}
