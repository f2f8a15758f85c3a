/** Folders of images: `CLASS/*.jpg|png|webp` with labels, or images alone without. */
import { createHash } from 'node:crypto';
import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { invalid } from '../errors/error.js';
import type { ImagePreprocessing } from '../models/preprocessing.js';
import { orderClasses } from './class-order.js';
import { checkIndex, type Dataset, type DatasetOptions } from './dataset.js';
import { preprocessImage } from './preprocess.js';

const imageFile = /\.(jpe?g|png|webp)$/i;

interface Listed {
  readonly path: string;
  readonly label?: number;
}

/**
 * Opens a folder of images; files are read when their sample is. The digest covers relative paths and file sizes, not contents:
 * hashing a folder the size of ImageNet would take minutes.
 * Throws INVALID_ARGUMENT on a folder without images, or with images both in class folders and beside them.
 */
export async function openImageFolder(
  folder: string,
  preprocessing: ImagePreprocessing,
  options: DatasetOptions = {},
): Promise<Dataset> {
  const entries = await readdir(folder, { withFileTypes: true });
  const flat = entries.filter((entry) => !entry.isDirectory() && imageFile.test(entry.name)).map(({ name }) => name);
  const classes = new Map<string, string[]>();
  for (const entry of entries.filter((candidate) => candidate.isDirectory())) {
    const names = (await readdir(join(folder, entry.name))).filter((name) => imageFile.test(name)).sort();
    if (names.length > 0) classes.set(entry.name, names);
  }
  if (flat.length > 0 && classes.size > 0) {
    const [first] = classes.keys();
    throw invalid(
      `${folder} has images in class folders (${first}) and beside them (${flat[0]}), expected one or the other`,
    );
  }
  if (flat.length === 0 && classes.size === 0) {
    throw invalid(`${folder} has no images: expected CLASS/*.jpg|png|webp, or *.jpg|png|webp without labels`);
  }
  const order = classes.size > 0 ? orderClasses([...classes.keys()], options.classes, folder) : undefined;
  const listed: Listed[] = order
    ? [...order.labelOf].flatMap(([name, label]) =>
        (classes.get(name) ?? []).map((file) => ({ path: join(name, file), label })),
      )
    : flat.sort().map((path) => ({ path }));
  return {
    name: basename(folder),
    digest: await digestOf(folder, listed),
    size: listed.length,
    classes: order?.classes,
    labelled: order !== undefined,
    async read(index) {
      checkIndex(folder, index, listed.length);
      const { path, label } = listed[index] as Listed;
      const file = join(folder, path);
      const encoded = new Uint8Array(await readFile(file));
      const pixels = await preprocessImage(encoded, preprocessing, file);
      return { pixels, encoded, name: path, ...(label === undefined ? {} : { label }) };
    },
    async image(index) {
      checkIndex(folder, index, listed.length);
      return new Uint8Array(await readFile(join(folder, (listed[index] as Listed).path)));
    },
  };
}

async function digestOf(folder: string, listed: readonly Listed[]): Promise<string> {
  const hash = createHash('sha256');
  // In portions: a stat for each of 50,000 files at once would queue 50,000 promises on four threads.
  for (let from = 0; from < listed.length; from += 256) {
    const portion = listed.slice(from, from + 256);
    const sizes = await Promise.all(portion.map(async ({ path }) => (await stat(join(folder, path))).size));
    portion.forEach(({ path, label }, at) =>
      hash.update(`${path.replaceAll('\\', '/')}\0${label ?? ''}\0${sizes[at]}\n`),
    );
  }
  return hash.digest('hex');
}
