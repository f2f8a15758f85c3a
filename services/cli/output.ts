import { access, constants, readlink, realpath, rename, rm, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import Table from 'cli-table3';
import { invalid, messageOf } from '../../libs/errors/error.js';
import { systemCode } from '../../libs/errors/write-failure.js';
import type { Context } from './context.js';

/**
 * Gives out a command's result: the text for people on stdout, the JSON to `target`, a file (written atomically) or `-`, which
 * is stdout and then has the JSON alone.
 */
export async function emit(context: Context, text: string, json: unknown, target: string | undefined): Promise<void> {
  if (target !== '-') await write(context, `${text}\n`);
  if (target !== undefined) await emitJson(context, json, target);
}

/** Gives out the JSON alone, to a file (written atomically) or to stdout (`-`). */
export async function emitJson(context: Context, json: unknown, target: string): Promise<void> {
  const content = `${JSON.stringify(json, null, 2)}\n`;
  if (target === '-') await write(context, content);
  else await writeWhole(target, content);
}

/** Throws INVALID_ARGUMENT naming the file where `writeWhole` could not write it. */
export async function checkWritable(path: string): Promise<void> {
  try {
    const { file, inPlace } = await placeOf(path);
    await access(inPlace ? file : dirname(file), constants.W_OK);
  } catch (cause) {
    throw invalid(`${path}: cannot be written: ${messageOf(cause)}`, cause);
  }
  const present = await stat(path).catch(() => undefined);
  if (present?.isDirectory()) throw invalid(`${path}: cannot be written: it is a folder`);
}

/**
 * Writes a file under another name first, so that a reader never sees half of it. A symbolic link stays and what it points at is
 * written; a device or a pipe is written to, never replaced. Throws INVALID_ARGUMENT naming the file.
 */
export async function writeWhole(path: string, content: string): Promise<void> {
  try {
    const { file, inPlace } = await placeOf(path);
    if (inPlace) await writeFile(file, content);
    else await replaceBy(file, content);
  } catch (cause) {
    throw invalid(`${path}: cannot be written: ${messageOf(cause)}`, cause);
  }
}

async function replaceBy(file: string, content: string): Promise<void> {
  const partial = join(dirname(file), `.${basename(file)}.${process.pid}`);
  try {
    await writeFile(partial, content);
    await rename(partial, file);
  } finally {
    await rm(partial, { force: true });
  }
}

/** The file that a path leads to, and whether it is to be written in place: what is no file (a device, a pipe) cannot be replaced. */
async function placeOf(path: string): Promise<{ file: string; inPlace: boolean }> {
  const present = await stat(path).catch((error: unknown) => {
    if (systemCode(error) !== 'ENOENT') throw error;
    return undefined;
  });
  // Not by its real path: that of /dev/stdout in a pipeline is the name of nothing.
  if (present && !present.isFile() && !present.isDirectory()) return { file: path, inPlace: true };
  if (present) return { file: await realpath(path), inPlace: false };
  const link = await readlink(path).catch(() => undefined);
  return link === undefined ? { file: path, inPlace: false } : placeOf(resolve(dirname(path), link));
}

/** Writes to stdout, and waits until it is taken. */
export function write(context: Context, text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    context.stdout.write(text, (error) => (error ? reject(error) : resolve()));
  });
}

/** A table of plain text, without colours: it reads the same in a pipe. Numbers go right, the first column left. */
export function textTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const table = new Table({
    head: [...head],
    colAligns: head.map((_, column) => (column === 0 ? 'left' : 'right')),
    style: { head: [], border: [], compact: true },
  });
  table.push(...rows.map((row) => [...row]));
  return table.toString();
}

/** A share in per cent: 0.5123 → 51.2 %. */
export function percent(share: number | null | undefined, digits = 1): string {
  return share === null || share === undefined ? '–' : `${(100 * share).toFixed(digits)} %`;
}

/** Three significant digits, without an exponent where that reads well; an absent number is a dash. */
export function short(value: number | null | undefined, unit = ''): string {
  if (value === null || value === undefined) return '–';
  if (!Number.isFinite(value)) return String(value);
  const magnitude = Math.abs(value);
  const text =
    value === 0
      ? '0'
      : magnitude < 1e-4 || magnitude >= 1e6
        ? value.toExponential(1)
        : String(Number(value.toPrecision(3)));
  return unit === '' ? text : `${text} ${unit}`;
}

/** FLOPs with the unit that fits: 1.26e9 → 1.26 G. */
export function flopsText(flops: number): string {
  const [scale, unit] = flops >= 1e9 ? [1e9, 'G'] : flops >= 1e6 ? [1e6, 'M'] : [1e3, 'k'];
  return `${(flops / scale).toPrecision(3)} ${unit}`;
}
