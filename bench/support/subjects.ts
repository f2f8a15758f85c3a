/** Which models a benchmark of pruning runs on, and with which data. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { HeartwoodError } from '../../libs/errors/error.js';

/** A model, the data that the pruner calibrates on, and the data that it never sees. */
export interface Subject {
  readonly name: string;
  readonly model: string;
  readonly data: string;
  /** Undefined: what calibration leaves of `data`. */
  readonly testData: string | undefined;
}

export interface SubjectOptions {
  readonly model?: string | undefined;
  readonly data?: string | undefined;
  readonly testData?: string | undefined;
}

const root = fileURLToPath(new URL('../../..', import.meta.url));
const cifarModel = join(root, '../shared/models/vit-cifar10');
const cifarArchive = join(root, '../shared/data/cifar10-jpeg/cifar10-jpeg.tar.gz');

export const demoSubject: Subject = {
  name: 'demo-digits',
  model: join(root, 'models/demo-digits'),
  data: 'demo:digits/validation',
  testData: 'demo:digits/test',
};

/**
 * The bundled model, and one more: that of the options, else vit-cifar10 with the CIFAR-10 JPEGs where they lie beside the
 * repository. Data that are a .tar.gz are extracted into `folder`; their train/ and test/ are the two parts.
 */
export async function subjectsOf(options: SubjectOptions, folder: string): Promise<Subject[]> {
  const { model, data, testData } = options;
  if (model !== undefined) {
    if (data === undefined) throw new HeartwoodError('INVALID_ARGUMENT', '--data: missing, expected with --model');
    const given = { name: basename(resolve(model)), model: resolve(model), ...(await partsOf(data, testData, folder)) };
    return given.model === demoSubject.model ? [given] : [demoSubject, given];
  }
  if (!existsSync(cifarModel) || !existsSync(cifarArchive)) {
    console.error('skipped: vit-cifar10 (../shared/models/vit-cifar10 and ../shared/data/cifar10-jpeg are not there)');
    return [demoSubject];
  }
  const parts = await partsOf(data ?? cifarArchive, testData, folder);
  return [demoSubject, { name: basename(cifarModel), model: cifarModel, ...parts }];
}

async function partsOf(
  data: string,
  testData: string | undefined,
  folder: string,
): Promise<Pick<Subject, 'data' | 'testData'>> {
  if (!data.endsWith('.tar.gz')) return { data, testData };
  const target = join(folder, basename(data, '.tar.gz'));
  await mkdir(target, { recursive: true });
  console.error(`extracting ${basename(data)} …`);
  const tar = spawn('tar', ['-xzf', resolve(data), '-C', target], { stdio: ['ignore', 'ignore', 'inherit'] });
  const [status] = (await once(tar, 'close')) as [number | null];
  if (status !== 0) throw new HeartwoodError('INVALID_ARGUMENT', `${data}: tar could not extract it`);
  const part = (name: string) => (existsSync(join(target, name)) ? join(target, name) : undefined);
  return { data: part('train') ?? target, testData: testData ?? part('test') };
}
