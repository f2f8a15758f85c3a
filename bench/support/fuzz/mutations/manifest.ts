/** Manifests, and the files of a folder, that were tampered with. */
import { rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Draw, flipped, spliced, truncated } from '../random.js';
import { manifestFile, modelFile, type Mutation, ofBytes, rewrite } from './mutation.js';

const values = [null, -1, 0, 1e308, '', 'x', [], {}, true, 1.5, 9007199254740992, 2 ** 40, 'x'.repeat(100_000), [[]], ['__proto__']] as const; // prettier-ignore

/** Puts another value in the place of one somewhere in a JSON value. */
function other(value: unknown, draw: Draw, depth = 0): unknown {
  if (typeof value !== 'object' || value === null || (depth > 0 && draw.chance(0.3))) return draw.pick(values);
  const keys = Object.keys(value);
  if (keys.length === 0) return draw.pick(values);
  const key = draw.pick(keys);
  const changed = other((value as Record<string, unknown>)[key], draw, depth + 1);
  if (Array.isArray(value)) return value.map((each: unknown, at) => (String(at) === key ? changed : each));
  const copy = { ...(value as Record<string, unknown>) };
  if (draw.chance(0.2)) delete copy[key];
  else copy[key] = changed;
  return copy;
}

const manifest = (_: readonly string[]): string => manifestFile;

export const manifestMutations: readonly Mutation[] = [
  ofBytes('manifest: flipped', manifest, flipped),
  ofBytes('manifest: truncated', manifest, truncated),
  ofBytes('manifest: spliced', manifest, spliced),
  ...Array.from({ length: 5 }, () =>
    ofBytes('manifest: other values', manifest, (draw, bytes) =>
      Buffer.from(JSON.stringify(other(JSON.parse(Buffer.from(bytes).toString()), draw))),
    ),
  ),
  ofBytes('manifest: deep nesting', manifest, (draw) =>
    Buffer.from(draw.pick(['[', '{"a":']).repeat(draw.integer(1, 100_000))),
  ),
  ofBytes(
    'config.pbtxt',
    () => `../config.pbtxt`,
    (draw) => draw.bytes(draw.integer(0, 3000)),
  ),
  ofBytes(
    'pinned.json',
    () => `../pinned.json`,
    (draw) => Buffer.from(draw.pick(['{', '{"version":1e99}', '{"version":"1"}', '[]', ''])),
  ),
  {
    name: 'folder: a file more',
    mutate: (directory, draw) => writeFile(join(directory, draw.pick(['extra', '.hidden', 'model.onnx.bak'])), 'x'),
  },
  { name: 'folder: no model', mutate: (directory) => rm(join(directory, modelFile)) },
  { name: 'folder: an empty model', mutate: (directory) => truncateCopy(join(directory, modelFile)) },
];

async function truncateCopy(file: string): Promise<void> {
  await rewrite(file, (bytes) => bytes);
  await truncate(file, 0);
}
