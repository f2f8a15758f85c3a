import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The checkout, from where this file is compiled to. */
export const root = fileURLToPath(new URL('../../../', import.meta.url));
export const monitoring = join(root, 'deploy/monitoring');

export const textOf = (path: string): string => readFileSync(join(root, path), 'utf8');

/** The queries that the README shows under a heading, as they stand there. */
export function readmeQueries(heading: string): string[] {
  const section =
    textOf('README.md')
      .split(/^## /m)
      .find((text) => text.startsWith(`${heading}\n`)) ?? '';
  return [...section.matchAll(/```promql\n(.*?)```/gs)].map(([, query]) => query!.trim());
}

/** The expressions of a file of rules: what follows `expr:`, on its line or indented below. */
export function ruleExpressions(path: string): string[] {
  return [...textOf(path).matchAll(/^( *)expr: (?:\|-?\n((?:\1 +.*\n?)+)|(.*))$/gm)].map(([, , block, line]) =>
    (block ?? line ?? '').trim(),
  );
}
