import { buffer as readAll } from 'node:stream/consumers';
import { Command, Option } from 'commander';
import { HeartwoodError, invalid } from '../../../libs/errors/error.js';
import { connectInference } from '../../server/client.js';
import type { AskedText, TextEnd, TextSource } from '../../server/inference/text-source.js';
import type { GeneratedToken } from '../../server/generation/event.js';
import { examples, integer, jsonOption, number } from '../arguments.js';
import type { Context } from '../context.js';
import { withLocalText } from '../measure/local-text.js';
import { emitJson, short, write } from '../output.js';
import { secretsOf } from '../transport-options.js';

interface Options {
  readonly repository?: string;
  readonly server?: string;
  readonly tlsCa?: string;
  readonly name: string;
  readonly modelVersion?: number;
  readonly maxTokens?: number;
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly repetitionPenalty?: number;
  readonly seed?: number;
  readonly stop?: string[];
  readonly logprobs?: number;
  readonly echo?: true;
  readonly truncate?: true;
  readonly ignoreEos?: true;
  readonly budget?: number;
  readonly json?: string;
}

export function generateCommand(context: Context): Command {
  const command = new Command('generate')
    .description('continue a text with a language model, written as it is generated')
    .argument(
      '<prompt>',
      'the text to continue, UTF-8; - reads it from standard input; an empty one is the token that texts begin with',
    )
    .option('--repository <folder>', 'the model repository, to run the model in this process; or')
    .addOption(new Option('--server <host:port>', 'a running server').conflicts('repository'))
    .requiredOption('--name <model>', 'the model in it')
    .option('--model-version <n>', 'which version (default: the pinned one, else the newest)', integer({ min: 1 }))
    .optionsGroup('How far:')
    .option(
      '--max-tokens <n>',
      'tokens at most (default: until the model ends the text, or its context is full)',
      integer({ min: 1 }),
    )
    .option('--stop <text>', 'end before this text; again for more', (text: string, all: string[] = []) => [
      ...all,
      text,
    ])
    .option('--ignore-eos', 'go on where the model would end the text')
    .option('--truncate', 'drop the beginning of a prompt that is too long, instead of refusing it')
    .optionsGroup(
      "How tokens are drawn (default: as the model's generation_config.json says, else the likeliest always):",
    )
    .option(
      '--temperature <t>',
      'above 0: by chance, the higher the bolder; 0: the likeliest always',
      number({ min: 0 }),
    )
    .option('--top-k <n>', 'only from the n likeliest; 0: from all', integer())
    .option('--top-p <p>', 'only from the likeliest that have this probability together', number({ min: 0, max: 1 }))
    .option(
      '--repetition-penalty <x>',
      'above 1: what was there before becomes less likely',
      number({ min: 0, inclusive: false }),
    )
    .option('--seed <n>', 'the same seed draws the same text', integer())
    .option(
      '--budget <nats>',
      'loss that dropping tokens of the prompt may cost, where the version can',
      number({ min: 0 }),
    )
    .optionsGroup('What is written:')
    .option('--echo', 'the prompt too')
    .option(
      '--logprobs <n>',
      'with --json: log-probabilities of each token, and of the n likeliest',
      integer({ min: 0, max: 20 }),
    )
    .option(
      '--tls-ca <file>',
      'with --server: the authorities of its certificate, PEM (https://host:port: the usual ones)',
    )
    .addOption(jsonOption())
    .action((prompt: string, options: Options) => run(prompt, options, context));
  return examples(
    command,
    'generate --repository models --name pythia "The heartwood of a tree"',
    'generate --repository models --name pythia --temperature 0.8 --top-p 0.95 --seed 7 --max-tokens 100 "Once"',
    'generate --server 127.0.0.1:8001 --name pythia --model-version 2 --json - - < prompt.txt',
  );
}

async function run(given: string, options: Options, context: Context): Promise<void> {
  const prompt = given === '-' ? textOf(await readAll(context.stdin ?? process.stdin)) : given;
  const asked = askedOf(prompt, options);
  try {
    await withSource(options, context.signal, (source) => writeText(source, asked, options, context));
  } catch (thrown) {
    throw byFlag(thrown);
  }
}

/** A text that is another encoding's would be gone on from as if every character beyond ASCII were "�". */
function textOf(bytes: Buffer): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw invalid('the prompt on standard input is not UTF-8 text', cause);
  }
}

/** What the engine and the server say of a field, said of the flag that it was given by. */
function byFlag(thrown: unknown): unknown {
  if (!(thrown instanceof HeartwoodError) || thrown.code !== 'INVALID_ARGUMENT') return thrown;
  const [field] =
    /^(temperature|top_k|top_p|repetition_penalty|seed|max_tokens|stop|logprobs|budget)\b/.exec(thrown.message) ?? [];
  if (field === undefined) return thrown;
  return invalid(`--${field.replaceAll('_', '-')}${thrown.message.slice(field.length)}`, thrown);
}

async function withSource<T>(
  options: Options,
  signal: AbortSignal,
  work: (source: TextSource) => Promise<T>,
): Promise<T> {
  const { repository, server, name, modelVersion } = options;
  if (repository !== undefined) {
    const local = { repository, name, versions: [modelVersion], warmUp: false };
    return withLocalText(local, signal, ([loaded]) => work(loaded!.source));
  }
  if (server === undefined) throw invalid('expected either --repository FOLDER or --server HOST:PORT');
  const { authToken } = secretsOf(process.env);
  const client = connectInference(server, {
    ...(options.tlsCa === undefined ? {} : { tlsCa: options.tlsCa }),
    ...(authToken === undefined ? {} : { authToken }),
  });
  try {
    return await work(client);
  } finally {
    client.close();
  }
}

/** Writes the text as it comes; with `--json -` the result alone, at the end. */
async function writeText(source: TextSource, asked: AskedText, options: Options, context: Context): Promise<void> {
  const streamed = options.json !== '-';
  const parts: string[] = [];
  const tokens: GeneratedToken[] = [];
  let end: TextEnd | undefined;
  try {
    for await (const event of source.generate(asked, context.signal)) {
      if (event.kind === 'end') {
        end = event;
        continue;
      }
      parts.push(event.text);
      for (const token of event.tokens) tokens.push(token);
      if (streamed) await write(context, event.text);
    }
  } finally {
    // The next line of the terminal is not the text's, however it ended.
    if (streamed && parts.length > 0) await write(context, '\n');
  }
  if (end === undefined) return;
  if (context.stderr.isTTY === true) context.stderr.write(`${summary(end)}\n`);
  const { kind: _kind, ...facts } = end;
  const document = {
    prompt: asked.prompt,
    text: parts.join(''),
    ...facts,
    ...(options.logprobs === undefined ? {} : { tokens }),
  };
  if (options.json !== undefined) await emitJson(context, document, options.json);
}

/** One line for people. */
function summary({ model, version, finishReason, usage, timing }: TextEnd): string {
  const { promptTokens, completionTokens } = usage;
  const { firstTokenMs, totalMs } = timing;
  const pace =
    completionTokens > 1 ? `, then ${short(((completionTokens - 1) * 1000) / (totalMs - firstTokenMs))} tokens/s` : '';
  return (
    `[${model} version ${version}: ${promptTokens} + ${completionTokens} tokens, ended by ${finishReason}; ` +
    `first token after ${short(firstTokenMs, 'ms')}${pace}]`
  );
}

function askedOf(prompt: string, options: Options): AskedText {
  const { temperature, topK, topP, repetitionPenalty, seed } = options;
  const given = Object.entries({ temperature, topK, topP, repetitionPenalty, seed }).filter(
    ([, value]) => value !== undefined,
  );
  return {
    model: options.name,
    version: options.modelVersion,
    prompt,
    sampling: Object.fromEntries(given),
    maxTokens: options.maxTokens,
    stop: options.stop,
    logprobs: options.logprobs,
    echo: options.echo,
    truncate: options.truncate,
    ignoreEos: options.ignoreEos,
    budget: options.budget,
  };
}
