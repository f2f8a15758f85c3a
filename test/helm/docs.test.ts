import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parse } from 'yaml';
import { refusals } from './command-line.js';
import { chart, examples, notes, render, root, withoutHelm } from './helm.js';

const guide = readFileSync(join(root, 'docs/deploy.md'), 'utf8');
const values: unknown = parse(readFileSync(join(chart, 'values.yaml'), 'utf8'));
const valueAt = (path: string): unknown =>
  path.split('.').reduce<unknown>((inside, name) => (inside as Record<string, unknown> | undefined)?.[name], values);

/** `heartwood …` behind `--`, as one asks for it in a pod; the arguments of each. */
const asked = (text: string): string[][] =>
  [...text.matchAll(/ -- heartwood ((?:[^\s`|]+ ?)+)/g)].map(([, args]) => args!.trim().split(' '));

test('the table of values says what values.yaml does', { skip: withoutHelm }, () => {
  const rows = [...guide.matchAll(/^\| `([\w.]+)` +\| `([^`]*)` +\|/gm)];
  assert.ok(rows.length >= 20);
  for (const [, path, text] of rows) {
    const written = /^[\d"[{]|^(true|false)$/.test(text!) ? (JSON.parse(text!) as unknown) : text;
    assert.deepEqual(valueAt(path!), written, path);
  }
});

test('what is named in passing is there too', { skip: withoutHelm }, () => {
  const paths = [
    ...guide.matchAll(/`((?:server|pruner|worker|repository|inputs|database|monitoring|powerMode|image)\.[\w.]+)`/g),
  ];
  assert.ok(paths.length >= 40);
  for (const [, path] of paths) assert.notEqual(valueAt(path!), undefined, path);
});

test('every example is told of, and every link leads somewhere', { skip: withoutHelm }, () => {
  const links = [...guide.matchAll(/\]\(([^)#:]+)\)/g)].map(([, link]) => link!);
  for (const link of links) assert.ok(existsSync(join(root, 'docs', link)), link);
  for (const example of examples) assert.ok(links.includes(`../helm/heartwood/examples/${example}.yaml`), example);
});

test('metrics are named as they are', { skip: withoutHelm }, () => {
  const known = readFileSync(join(root, 'docs/metrics.md'), 'utf8');
  const named = new Set([...guide.matchAll(/\bheartwood_(?!live)[a-z_]+/g)].map(([name]) => name));
  assert.ok(named.size >= 5);
  for (const name of named) assert.ok(known.includes(`\`${name}\``), name);
});

test('the command line takes what is shown of it', { skip: withoutHelm }, () => {
  const shown = asked(guide);
  assert.ok(shown.length >= 4);
  for (const args of shown) assert.deepEqual(refusals(args, new Set()), [], args.join(' '));
});

for (const example of examples) {
  test(
    `${example}: what helm says in the end names what is there, and takes the command line as it is`,
    { skip: withoutHelm },
    async () => {
      const text = await notes(example);
      const objects = await render(example);
      const names = [...text.matchAll(/\b(service|deploy|deployment|daemonset)\/([a-z0-9-]+)/g)];
      assert.ok(names.length >= 3);
      for (const [, kind, name] of names) {
        const short = kind === 'deploy' ? 'deployment' : kind;
        assert.ok(
          objects.some((object) => object.kind.toLowerCase() === short && object.metadata.name === name),
          `${kind}/${name}`,
        );
      }
      assert.ok(asked(text).length >= 1);
      for (const args of asked(text)) assert.deepEqual(refusals(args, new Set()), [], args.join(' '));
      assert.doesNotMatch(text, /<no value>|\{\{/);
    },
  );
}

/** Values, and whether helm warns that tokens travel unencrypted. */
const exposed: readonly (readonly [Readonly<Record<string, unknown>>, boolean])[] = [
  [{}, false],
  [{ 'pruner.auth.secretName': 'tokens' }, true],
  [{ 'pruner.auth.secretName': 'tokens', 'pruner.tls.secretName': 'tls' }, false],
];

for (const [values, warns] of exposed) {
  test(
    `${JSON.stringify(values)}: ${warns ? 'a' : 'no'} warning of tokens without TLS`,
    { skip: withoutHelm },
    async () => {
      assert.equal(/^Tokens of the pruner travel unencrypted/m.test(await notes('plain', values)), warns);
    },
  );
}
