/** Opening text by what a user writes after `--data`, for a language model. */
import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { HeartwoodError, invalid, messageOf } from '../../errors/error.js';
import { parseBundled } from '../bundled.js';
import type { Split } from '../digits.js';
import { brownDocuments } from './brown.js';
import { tokenize, windowDataset, type TextDataset } from './dataset.js';
import { documentsOf, type TextDocument } from './documents.js';
import { openInputIds } from './input-ids.js';
import type { Tokenizer } from './tokenizer.js';

export interface TextOptions {
  /** Tokens of a window cut from text; `input_ids` have their own. */
  readonly positions: number;
  /** Which part of bundled text; `SPEC/test` says the same. Default `validation`: text that training never saw. */
  readonly split?: Split;
  /** Token numbers must be below this. Default: the tokenizer's. */
  readonly vocabulary?: number;
}

/** Text is held in memory, as tokens: more than this is no calibration data, and would be a mistake. */
const mostBytes = 1 << 28;

/**
 * Opens text: a file (its documents are told apart as `documentsOf` says), a folder of .txt files (each a document), a .safetensors file
 * with `input_ids`, or `demo:brown`. Throws NOT_FOUND where there is nothing, INVALID_ARGUMENT where what is there is broken, too short
 * for a window, or no text.
 */
export async function openText(spec: string, tokenizer: Tokenizer, options: TextOptions): Promise<TextDataset> {
  const { positions, vocabulary = tokenizer.vocabulary } = options;
  const bundled = parseBundled(spec);
  if (!bundled && spec.endsWith('.safetensors')) return openInputIds(spec, vocabulary);
  const { name, documents } = await openDocuments(spec, options.split);
  const tokens = tokenize(documents, tokenizer);
  for (const { name: title, ids } of tokens) {
    const wrong = ids.find((id) => id >= vocabulary);
    if (wrong !== undefined)
      throw invalid(`${title}: token ${wrong}, where the model has ${vocabulary}: expected its own tokenizer`);
  }
  return windowDataset(name, tokens, positions);
}

/** Opens text as `openText` does, uncut: for who asks a model to go on with it. */
export async function openDocuments(spec: string, split?: Split): Promise<TextDocuments> {
  const bundled = parseBundled(spec);
  return bundled ? openBundled(bundled, split) : readDocuments(spec);
}

export interface TextDocuments {
  readonly name: string;
  readonly documents: readonly TextDocument[];
}

async function openBundled(
  { name, kind, split: named }: NonNullable<ReturnType<typeof parseBundled>>,
  wanted: Split | undefined,
): Promise<TextDocuments> {
  if (kind !== 'text') throw invalid(`${name} holds images, where text is expected`);
  const split = named ?? wanted ?? 'validation';
  return { name: `${name}/${split}`, documents: await brownDocuments(split) };
}

async function readDocuments(spec: string): Promise<TextDocuments> {
  const found = await stat(spec).catch((error: unknown) => {
    throw new HeartwoodError('NOT_FOUND', `${spec} cannot be opened: ${messageOf(error)}`, { cause: error });
  });
  if (!found.isDirectory()) {
    checkSize(spec, found.size);
    const documents = documentsOf(await readUtf8(spec), basename(spec));
    if (documents.length === 0) throw invalid(`${spec} has no word in it, expected text`);
    return { name: basename(spec), documents };
  }
  const files = (await readdir(spec)).filter((file) => file.endsWith('.txt')).sort();
  if (files.length === 0) throw invalid(`${spec} has no .txt file, expected a folder of documents`);
  let bytes = 0;
  const documents: TextDocument[] = [];
  for (const name of files) {
    checkSize(spec, (bytes += (await stat(join(spec, name))).size));
    const text = await readUtf8(join(spec, name));
    if (text.trim().length > 0) documents.push({ name, text });
  }
  if (documents.length === 0) throw invalid(`${spec}: its .txt files are empty, expected text`);
  return { name: basename(spec), documents };
}

function checkSize(spec: string, bytes: number): void {
  if (bytes > mostBytes)
    throw invalid(`${spec} has ${Math.round(bytes / 1e6)} MB or more, expected at most ${Math.round(mostBytes / 1e6)}`);
}

async function readUtf8(path: string): Promise<string> {
  const bytes = await readFile(path);
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    throw invalid(`${path} is no text: expected UTF-8`, error);
  }
}
