/** Models that were tampered with. */
import { readdir, rename, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { type Draw, flipped, spliced, truncated } from '../random.js';
import { endless } from './endless.js';
import { manifestFile, modelFile, type Mutation, ofBytes } from './mutation.js';
import { structural } from './structural.js';

const theModel = (): string => modelFile;
const data = (files: readonly string[], draw: Draw): string | undefined => {
  const others = files.filter((file) => file !== modelFile && file !== manifestFile);
  return others.length > 0 ? draw.pick(others) : undefined;
};

const neverDrawn: Draw = {
  integer: (from) => from,
  chance: () => false,
  pick: (choices) => choices[0]!,
  bytes: (length) => new Uint8Array(length),
};

export const modelMutations: readonly Mutation[] = [
  ofBytes('model: flipped', theModel, flipped),
  ofBytes('model: truncated', theModel, truncated),
  ofBytes('model: spliced', theModel, spliced),
  ofBytes('model: random bytes', theModel, (draw) => draw.bytes(draw.integer(0, 3000))),
  ofBytes('model: nested groups', theModel, (draw) =>
    Buffer.alloc(draw.integer(1, 100_000), draw.pick([0x0b, 0x3a, 0x7b])),
  ),
  ofBytes('data: flipped', data, flipped),
  ofBytes('data: truncated', data, truncated),
  {
    name: 'data: a symbolic link',
    async mutate(directory) {
      const file = data((await readdir(directory)).sort(), neverDrawn) ?? modelFile;
      await rename(join(directory, file), `${directory}.elsewhere`);
      await symlink(`${directory}.elsewhere`, join(directory, file));
    },
  },
  ...structural,
  ...structural,
  ...endless,
];
