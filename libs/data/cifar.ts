/**
 * The binary version of CIFAR-10 (https://www.cs.toronto.edu/~kriz/cifar.html): records of one label byte and 3072 bytes of
 * pixels, the red plane, the green, the blue, each 32×32.
 */
import { readdir, readFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { invalid } from '../errors/error.js';
import type { ImagePreprocessing } from '../models/preprocessing.js';
import { digestFiles, openBytes, type ByteSource } from './byte-source.js';
import { checkLabel, rawDataset, type Dataset, type DatasetOptions } from './dataset.js';

const side = 32;
const plane = side * side;
const record = 1 + 3 * plane;
const cifarFile = /^(data_batch.*|test_batch)\.bin$/;

/** Whether a file is a batch of CIFAR-10, by its name. */
export function isCifarFile(path: string): boolean {
  return cifarFile.test(basename(path));
}

/** The batches of a folder: `test_batch.bin` for the split `test`, else every `data_batch*.bin`. */
export async function findCifarFiles(folder: string, split: DatasetOptions['split']): Promise<string[]> {
  const names = (await readdir(folder)).filter(isCifarFile).sort();
  const wanted = names.filter((name) => name.startsWith('test') === (split === 'test'));
  // A folder of test data alone is what its owner means by it.
  return (wanted.length > 0 || split !== undefined ? wanted : names).map((name) => join(folder, name));
}

/**
 * Opens batches as one dataset. The digest covers the files. Reading a sample throws INVALID_ARGUMENT where its label is none of
 * CIFAR-10's, or of the model's `classes`.
 */
export async function openCifar(
  paths: readonly string[],
  preprocessing: ImagePreprocessing,
  classes?: number,
): Promise<Dataset> {
  const batches = await Promise.all(paths.map(openBatch));
  const [first] = paths;
  if (first === undefined) throw invalid('no CIFAR-10 batch is given');
  const size = batches.reduce((total, { count }) => total + count, 0);
  return rawDataset(
    {
      name: paths.length === 1 ? basename(first) : basename(dirname(first)),
      digest: await digestFiles(paths),
      size,
      classes: await classNames(dirname(first)),
      labelled: true,
      async raw(index) {
        let at = index;
        const batch = batches.find(({ count }) => at < count || ((at -= count), false));
        if (!batch) throw invalid(`sample ${index} is beyond the ${size} of ${first}`);
        const bytes = await batch.source.read(at * record, record);
        const label = bytes[0] as number;
        if (label > 9) throw invalid(`${batch.source.path} has the label ${label} in record ${at}, expected 0 to 9`);
        checkLabel(batch.source.path, at, label, classes);
        return { image: { data: interleave(bytes.subarray(1)), height: side, width: side, channels: 3 }, label };
      },
    },
    preprocessing,
  );
}

async function openBatch(path: string): Promise<{ source: ByteSource; count: number }> {
  const source = await openBytes(path);
  if (source.size === 0 || source.size % record !== 0) {
    throw invalid(`${path} has ${source.size} bytes, expected a multiple of ${record} (one CIFAR-10 record)`);
  }
  return { source, count: source.size / record };
}

/** Planes [3, 32, 32] to pixels [32, 32, 3]. */
function interleave(planes: Uint8Array): Uint8Array {
  const pixels = new Uint8Array(3 * plane);
  for (let at = 0; at < plane; at++) {
    for (let channel = 0; channel < 3; channel++) pixels[at * 3 + channel] = planes[channel * plane + at] as number;
  }
  return pixels;
}

/** The names in `batches.meta.txt`, which comes with the data; undefined where it is missing. */
async function classNames(folder: string): Promise<string[] | undefined> {
  try {
    const names = (await readFile(join(folder, 'batches.meta.txt'), 'utf8')).split('\n').map((line) => line.trim());
    return names.filter((name) => name !== '');
  } catch {
    return undefined;
  }
}
