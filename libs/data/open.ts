/** Opening a dataset by what a user writes after `--data`: one table of kinds, the first that recognises the spec opens it. */
import { stat } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { HeartwoodError, invalid } from '../errors/error.js';
import type { ImagePreprocessing } from '../models/preprocessing.js';
import { parseBundled } from './bundled.js';
import { findCifarFiles, isCifarFile, openCifar } from './cifar.js';
import type { Dataset, DatasetOptions } from './dataset.js';
import { openDemoDigits } from './demo-digits.js';
import { splits } from './digits.js';
import { findIdxImages, isIdxImages, openIdx } from './idx.js';
import { openImageFolder } from './image-folder.js';
import { openTensors } from './tensors.js';

/** What a spec turned out to be. */
interface Located {
  readonly spec: string;
  readonly kind: 'name' | 'file' | 'folder';
  readonly options: DatasetOptions;
}

interface DatasetKind {
  readonly expects: string;
  /** Opens the spec, or undefined where it is not of this kind. */
  open(located: Located, preprocessing: ImagePreprocessing): Promise<Dataset | undefined>;
}

const kinds: readonly DatasetKind[] = [
  {
    expects: 'demo:digits',
    async open({ spec, options }, preprocessing) {
      return spec === 'demo:digits' ? openDemoDigits(preprocessing, options.split) : undefined;
    },
  },
  {
    expects: 'a .safetensors file with pixel_values',
    async open({ spec, kind, options }, preprocessing) {
      if (kind !== 'file' || !spec.endsWith('.safetensors')) return undefined;
      return openTensors(spec, preprocessing, options.classes?.length);
    },
  },
  {
    expects: 'the images file of an IDX pair (…images-idx3-ubyte[.gz])',
    async open({ spec, kind, options }, preprocessing) {
      const path = kind === 'folder' ? await findIdxImages(spec, options.split) : isIdxImages(spec) ? spec : undefined;
      return path === undefined ? undefined : openIdx(path, preprocessing, options.classes?.length);
    },
  },
  {
    expects: 'a CIFAR-10 batch (data_batch_1.bin, test_batch.bin)',
    async open({ spec, kind, options }, preprocessing) {
      const paths = kind === 'folder' ? await findCifarFiles(spec, options.split) : isCifarFile(spec) ? [spec] : [];
      return paths.length === 0 ? undefined : openCifar(paths, preprocessing, options.classes?.length);
    },
  },
  {
    expects: 'a folder with any of these, with CLASS/*.jpg|png|webp, or with images alone',
    async open({ spec, kind, options }, preprocessing) {
      return kind === 'folder' ? openImageFolder(spec, preprocessing, options) : undefined;
    },
  },
];

/**
 * Opens a dataset: a path (image folder, IDX pair, CIFAR-10 binary, .safetensors) or `demo:digits`. `SPEC/train`,
 * `SPEC/validation` and `SPEC/test` name a split of data that has them, as `options.split` does; the default is `train` for
 * IDX and CIFAR folders, and `validation` for demo:digits.
 * Throws NOT_FOUND where there is nothing, INVALID_ARGUMENT where what is there is broken, empty or of no known kind.
 */
export async function openDataset(
  spec: string,
  preprocessing: ImagePreprocessing,
  options: DatasetOptions = {},
): Promise<Dataset> {
  const located = await locate(spec, options);
  for (const kind of kinds) {
    const dataset = await kind.open(located, preprocessing);
    if (dataset) return checkLabels(dataset, options);
  }
  throw invalid(`${spec} is no dataset: expected ${kinds.map(({ expects }) => expects).join('; ')}`);
}

async function locate(spec: string, options: DatasetOptions): Promise<Located> {
  const bundled = parseBundled(spec);
  if (bundled) {
    const { name, split } = bundled;
    if (bundled.kind !== 'images') throw invalid(`${spec} holds text, where images are expected`);
    return { spec: name, kind: 'name', options: split ? { ...options, split } : options };
  }
  const split = splits.find((name) => spec.endsWith(`/${name}`));
  const parent = split && spec.slice(0, -split.length - 1);
  const bySplit = split && { ...options, split };
  const kind = await kindOf(spec);
  if (kind !== undefined) return { spec, kind, options };
  // A folder of that name comes first: an image folder often has its splits as folders.
  if (parent && bySplit && (await kindOf(parent)) === 'folder') {
    const split_ = bySplit.split;
    if ((await findCifarFiles(parent, split_)).length > 0 || (await findIdxImages(parent, split_))) {
      return { spec: parent, kind: 'folder', options: bySplit };
    }
  }
  throw new HeartwoodError('NOT_FOUND', `${basename(dirname(spec))}/${basename(spec)}: there is no data at ${spec}`);
}

async function kindOf(path: string): Promise<'file' | 'folder' | undefined> {
  try {
    return (await stat(path)).isDirectory() ? 'folder' : 'file';
  } catch {
    return undefined;
  }
}

/** A model of ten labels cannot be tested on data of a hundred. */
function checkLabels(dataset: Dataset, { classes }: DatasetOptions): Dataset {
  if (classes && dataset.classes && dataset.classes.length > classes.length) {
    throw invalid(`${dataset.name} has ${dataset.classes.length} classes, the model only ${classes.length} labels`);
  }
  return dataset;
}
