import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import sharp from 'sharp';
import { accuracyCurve, headHeatMap } from './charts.js';
import type { ReportData } from './data.js';
import { escape, html } from './html.js';
import { countGroups, overlay } from './overlay.js';
import { renderReport } from './report.js';

const grid = { rows: 2, columns: 2, special: 1 };

describe('html', () => {
  it('escapes what is put in, but not its own', () => {
    assert.equal(
      html`<b>${'<i>"\'&'}${html`<u>${1}</u>`}${['<', html`<br />`]}${undefined}</b>`.text,
      '<b>&lt;i&gt;&quot;&#39;&amp;<u>1</u>&lt;<br /></b>',
    );
    assert.equal(escape('a'), 'a');
  });
});

describe('overlay', () => {
  it('counts tokens, merged and dropped patches without the special tokens', () => {
    assert.deepEqual(countGroups(Int32Array.of(0, 1, 1, 2, -1), grid), { kept: 2, merged: 2, dropped: 1 });
    assert.deepEqual(countGroups(Int32Array.of(0, 1, 2, 3, 4), grid), { kept: 4, merged: 0, dropped: 0 });
  });

  it('colours merged patches alike, darkens dropped ones, and draws lines between groups only', () => {
    const { text } = overlay('data:,', Int32Array.of(0, 1, 1, 2, -1), grid);
    const fills = [...text.matchAll(/<rect x="(\d+)" y="(\d+)"[^>]*fill="([^"]+)"/g)].map(([, x, y, fill]) => [
      x,
      y,
      fill,
    ]);
    assert.equal(fills.length, 3);
    assert.equal(fills[0]![2], fills[1]![2]);
    assert.deepEqual(fills[2], ['10', '10', '#000']);
    assert.match(text, /d="(?:M0 10h10|M10 10v10|M10 10h10)+"/);
    assert.doesNotMatch(text, /M10 0v10/, 'no line between the two that are one');
  });
});

describe('charts', () => {
  it('escape text and draw every value', () => {
    const map = headHeatMap({
      loss: 'KL',
      values: [
        [0.1, 0.002],
        [0, 1e-7],
        [3, -0.5],
      ],
    }).text;
    for (const value of ['0.10', '0.0020', '1.0e-7', '-0.50']) assert.ok(map.includes(`>${value}<`), value);
    const hostile = '<script>alert(1)</script>';
    const curve = accuracyCurve([
      { name: hostile, budget: 0.1, flops: 1e6, accuracy: 0.9 },
      { name: 'dense', budget: null, flops: 2e6, accuracy: 0.91 },
    ]).text;
    assert.ok(!curve.includes('<script') && curve.includes('&lt;script'));
  });
});

describe('report', () => {
  it('is one file without scripts or links, with every label escaped', async () => {
    const png = await sharp({ create: { width: 4, height: 4, channels: 3, background: 'red' } })
      .png()
      .toBuffer();
    const hostile = `"><img src=x onerror=alert(1)>`;
    const data: ReportData = {
      title: hostile,
      summary: hostile,
      table: { head: [hostile], rows: [[hostile]] },
      images: [
        { name: hostile, png, label: hostile, dense: hostile, pruned: hostile, groups: [Int32Array.of(0, 1, 1, 2, 3)] },
      ],
      grid,
      stages: [2],
      heads: { loss: hostile, values: [[1, 2]] },
      curve: [{ name: hostile, budget: 0.1, flops: 1e6, accuracy: 0.9 }],
      facts: [[hostile, hostile]],
    };
    const text = renderReport(data);
    assert.ok(!text.includes('<img src=x'), 'nothing unescaped');
    assert.doesNotMatch(text, /<script|https?:\/\/(?!www\.w3\.org)|url\((?!#)/);
    assert.ok(text.startsWith('<!doctype html>'));
    assert.match(text, /in block 2: 3 tokens, 2 patches share/);
    const bare = renderReport({ ...data, images: [], heads: undefined, curve: [] });
    assert.doesNotMatch(bare, /<svg|<h2>What/);
  });
});
