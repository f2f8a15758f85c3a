import type { Command } from 'commander';
import { InvalidArgumentError, Option } from 'commander';

interface Range {
  readonly min?: number;
  readonly max?: number;
  /** Whether `min` itself is allowed. Default true. */
  readonly inclusive?: boolean;
}

/** Parses a number in a range. */
export function number({ min = -Infinity, max = Infinity, inclusive = true }: Range = {}) {
  return (text: string): number => {
    const value = text.trim() === '' ? NaN : Number(text);
    if (!Number.isFinite(value) || value < min || value > max || (!inclusive && (value === min || value === max))) {
      throw new InvalidArgumentError(`Expected a number${rangeText({ min, max, inclusive })}.`);
    }
    return value;
  };
}

/** Parses an integer in a range. */
export function integer({ min = 0, max = Number.MAX_SAFE_INTEGER }: Range = {}) {
  return (text: string): number => {
    const value = /^[+-]?\d+$/.test(text.trim()) ? Number(text) : NaN;
    if (!Number.isSafeInteger(value) || value < min || value > max) {
      throw new InvalidArgumentError(`Expected an integer${rangeText({ min, max, inclusive: true })}.`);
    }
    return value;
  };
}

function rangeText({ min, max, inclusive }: Required<Range>): string {
  const atLeast = min > -Infinity ? ` ${inclusive ? 'of at least' : 'above'} ${min}` : '';
  const known = max < Infinity && max !== Number.MAX_SAFE_INTEGER;
  return known ? `${atLeast} and ${inclusive ? 'at most' : 'below'} ${max}` : atLeast;
}

/** Parses `4,8` into integers. */
export function integers(range: Range = {}) {
  return (text: string): number[] => text.split(',').map(integer(range));
}

/** Parses `1,2,5` into version numbers, in the order given. */
export function versions(text: string): number[] {
  const parse = integer({ min: 1 });
  const list = text.split(',').map((part) => {
    try {
      return parse(part);
    } catch {
      throw new InvalidArgumentError('Expected version numbers such as 1,2.');
    }
  });
  if (new Set(list).size !== list.length) throw new InvalidArgumentError('A version is named twice.');
  return list;
}

/** Parses a comma-separated list of these words. */
export function wordsOf<T extends string>(words: readonly T[]) {
  return (text: string): T[] => {
    const list = text.split(',').map((word) => word.trim());
    const unknown = list.find((word) => !(words as readonly string[]).includes(word));
    if (unknown !== undefined) throw new InvalidArgumentError(`Expected of ${words.join(', ')}.`);
    return [...new Set(list)] as T[];
  };
}

/** The option that every command with a result has. */
export const jsonOption = () => new Option('--json <file>', 'write the result as JSON, to a file or to stdout (-)');

/** How many fixed counts of tokens, or which. */
export const ladderOption = () =>
  new Option(
    '--ladder <n|counts>',
    'also write the classifier at fixed counts of tokens: so many, or these, such as 48,32,16 (for tensorrt)',
  );

/** The options that name a model in a repository. */
export function withModel(command: Command): Command {
  return command
    .requiredOption('--repository <folder>', 'the model repository')
    .requiredOption('--name <model>', 'the model in it');
}

/** What the data option takes for a classifier. */
export const imageHelp = 'an image folder (CLASS/*.jpg|png|webp), IDX pair, CIFAR binary, .safetensors, or demo:digits';

/** The same for a language model. */
export const textHelp = 'a text file, a folder of .txt, .safetensors with input_ids, or demo:brown';

/** Where the model may be either. */
export const dataHelp = `${imageHelp}; for a language model ${textHelp}`;

/** Examples below a command's help. */
export function examples(command: Command, ...lines: readonly string[]): Command {
  const text = lines.map((line) => `  $ npx heartwood ${line}`).join('\n');
  return command.addHelpText('after', `\nExamples:\n${text}`);
}
