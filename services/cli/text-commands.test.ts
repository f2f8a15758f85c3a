import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable, Writable } from 'node:stream';
import { after, before, test } from 'node:test';
import { writeSmallTextModel } from '../../libs/pruning/testing/small-text-model.js';
import type { ComparisonResult } from '../server/comparison/result.js';
import type { TextEnd } from '../server/inference/text-source.js';
import { type TextServer, textServer } from '../server/testing/text-server.js';
import { exitCodes, runCommand } from './run.js';

let folder = '';
let live: TextServer;
let local: readonly string[];
let remote: readonly string[];
let data = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'heartwood-text-cli-'));
  live = await textServer();
  local = ['--repository', live.repository.directory, '--name', 'lm'];
  remote = ['--server', live.address, '--name', 'lm'];
  data = join(folder, 'text.txt');
  await writeFile(
    data,
    Array.from({ length: 40 }, (_, i) => `Sentence number ${i} of a text to go on with. `).join(''),
  );
});
after(async () => {
  await live.stop();
  await rm(folder, { recursive: true, force: true });
});

interface Result {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

async function run(
  argv: readonly string[],
  input: string | Buffer = '',
  onOut: (text: string) => void = () => undefined,
  signal = new AbortController().signal,
) {
  const text = { out: '', err: '' };
  const sink = (key: 'out' | 'err') =>
    new Writable({
      write(chunk: Buffer, _encoding, done) {
        text[key] += chunk.toString();
        if (key === 'out') onOut(text.out);
        done();
      },
    });
  const context = { stdin: Readable.from([input]), stdout: sink('out'), stderr: sink('err'), signal };
  return { code: await runCommand(argv, context), ...text } satisfies Result;
}

const usual = ['--max-tokens', '16', '--ignore-eos'];

interface Answer extends Omit<TextEnd, 'kind'> {
  readonly prompt: string;
  readonly text: string;
  readonly tokens?: { readonly id: number; readonly logprob: number }[];
}

test('generate writes the text as it comes, the same in this process as by a server', async () => {
  const pieces = new Set<number>();
  const here = await run(['generate', ...local, ...usual, 'Once upon'], '', (text) => pieces.add(text.length));
  assert.deepEqual([here.code, here.err], [exitCodes.done, '']);
  assert.ok(pieces.size > 2, 'piece by piece');
  const there = await run(['generate', ...remote, ...usual, 'Once upon']);
  assert.equal(there.out, here.out);
  assert.ok(here.out.endsWith('\n'));
  const echoed = await run(['generate', ...remote, ...usual, '--echo', '-'], 'Once upon');
  assert.equal(echoed.out, `Once upon${here.out}`);
  const first = await run(['generate', ...local, ...usual, '--model-version', '1', 'Once upon']);
  assert.notEqual(first.out, here.out);
});

test('generate says all of it as JSON', async () => {
  const drawn = ['--temperature', '0.9', '--top-k', '20', '--top-p', '0.9', '--seed', '4', '--logprobs', '1'];
  const piped = await run(['generate', ...remote, ...usual, ...drawn, '--json', '-', 'Once']);
  const answer = JSON.parse(piped.out) as Answer;
  assert.deepEqual(
    [answer.model, answer.version, answer.prompt, answer.finishReason, answer.seed, answer.usage.completionTokens],
    ['lm', 2, 'Once', 'length', 4, 16],
  );
  assert.equal(answer.tokens?.length, 16);
  assert.ok(answer.tokens.every(({ logprob }) => logprob <= 0));
  const file = join(folder, 'answer.json');
  const streamed = await run(['generate', ...local, ...usual, ...drawn, '--json', file, 'Once']);
  const written = JSON.parse(await readFile(file, 'utf8')) as Answer;
  assert.equal(streamed.out, `${written.text}\n`);
  assert.equal(written.text, answer.text);
});

test('generate is stopped, and says what is wrong', async () => {
  const controller = new AbortController();
  const stopped = await run(
    ['generate', ...remote, '--ignore-eos', 'x'],
    '',
    () => controller.abort(),
    controller.signal,
  );
  assert.equal(stopped.code, exitCodes.failed);
  assert.match(stopped.err, /^heartwood: interrupted/);
  const bad = async (argv: string[], message: RegExp, input?: string | Buffer) => {
    const { code, err } = await run(['generate', ...argv], input);
    assert.equal(code, exitCodes.badInput, err);
    assert.match(err, message);
    assert.equal(err.trim().split('\n').length, 1, err);
  };
  await bad(['--name', 'lm', 'x'], /expected either --repository FOLDER or --server HOST:PORT/);
  await bad([...local, '--name', 'net', 'x'], /model net: it classifies images, expected a language model/);
  await bad([...local, '--name', 'absent', 'x'], /absent/);
  await bad([...remote, '--model-version', '9', 'x'], /version 9 of lm: not in the repository/);
  for (const where of [local, remote]) {
    await bad([...where, '-'], /the prompt on standard input is not UTF-8 text/, Buffer.from([0x61, 0xff, 0x62]));
    await bad([...where, '--max-tokens', '1024', 'x'], /: --max-tokens: 1024, expected fewer than the context of 1024/);
    await bad([...where, '--top-p', '0', 'x'], /: --top-p: 0, expected a number above 0 and at most 1$/m);
    await bad([...where, '--repetition-penalty', '1e9', 'x'], /: --repetition-penalty: 1000000000, expected/);
    await bad([...where, '--stop', '', 'x'], /: --stop\[0\]: expected a text of 1 to 1024 characters/);
    await bad([...where, '--budget', '0.5', 'x'], /: --budget: 0\.5, expected none: version 2 of lm drops no tokens/);
  }
  await bad([...remote, 'x'.repeat(4000)], /4000 tokens.*context of 1024/);
  await bad([...remote, '--temperature', 'hot', 'x'], /Expected a number/);
  const help = await run(['generate', '--help']);
  for (const said of ['--temperature', '--stop', '--seed', 'generate --server', '< prompt.txt'])
    assert.ok(help.out.includes(said), said);
});

test('an empty prompt is the token that texts begin with, however it comes; a model without one refuses it', async () => {
  const { ids } = await live.generate({ text: '', maxTokens: 16, ignoreEos: true });
  assert.deepEqual((await live.generate({ tokens: { ids: [0] }, maxTokens: 16, ignoreEos: true })).ids, ids);
  for (const where of [local, remote])
    for (const prompt of ['', '-']) {
      const { code, out, err } = await run(['generate', ...where, ...usual, '--logprobs', '0', '--json', '-', prompt]);
      assert.equal(code, exitCodes.done, err);
      assert.deepEqual(
        (JSON.parse(out) as Answer).tokens?.map(({ id }) => id),
        ids,
      );
    }
  const model = await writeSmallTextModel(join(folder, 'unbegun'), {}, { bos_token_id: undefined });
  const config = JSON.parse(await readFile(join(model, 'config.json'), 'utf8')) as object;
  await writeFile(join(model, 'config.json'), JSON.stringify({ ...config, bos_token_id: undefined }));
  const repository = join(folder, 'unbegun-models');
  await run(['import', '--model', model, '--repository', repository]);
  for (const prompt of ['', '-']) {
    const { code, err } = await run(['generate', '--repository', repository, '--name', 'unbegun', prompt]);
    assert.equal(code, exitCodes.badInput);
    assert.match(err, /prompt: it has no tokens, expected at least 1; an empty text/);
  }
});

test('import and list know language models', async () => {
  const model = await writeSmallTextModel(join(folder, 'tiny'), { context: 64 });
  const repository = join(folder, 'models');
  const imported = await run(['import', '--model', model, '--repository', repository]);
  assert.match(imported.out, /^tiny version 1: GPTNeoXForCausalLM, .*FLOPs a token, 257 tokens, a context of 64\n/);
  const listed = await run(['list', '--repository', repository, '--json', '-']);
  const { versions } = JSON.parse(listed.out) as {
    versions: { model: string; architecture: string; task: string; context: number }[];
  };
  assert.deepEqual(
    versions.map(({ model, architecture, task, context }) => [model, architecture, task, context]),
    [['tiny', 'GPTNeoXForCausalLM', 'text-generation', 64]],
  );
  assert.match((await run(['list', '--repository', repository])).out, /text, 64/);
});

test('evaluate refuses a budget that no version takes', async () => {
  const { code, err } = await run(['evaluate', ...local, '--data', data, '--budget', '0.1']);
  assert.equal(code, exitCodes.badInput);
  assert.match(err, /--budget: 0\.1, expected none: version 1 of lm takes no budget/);
});

test('compare sets the versions of a language model side by side, in this process and by a server', async () => {
  const settings = [
    '--data',
    data,
    '--samples',
    '6',
    '--max-tokens',
    '8',
    '--prompt-tokens',
    '12',
    '--warmup',
    '1',
    '--budget',
    '0.1',
  ];
  for (const where of [local, remote]) {
    const { code, out, err } = await run(['compare', ...where, ...settings, '--concurrency', '2', '--json', '-']);
    assert.equal(code, exitCodes.done, err);
    const { versions, samples, notes } = JSON.parse(out) as ComparisonResult & { notes: string[] };
    assert.deepEqual(
      versions.map(({ version, text }) => [version, text?.tokens]),
      [
        [1, 8],
        [2, 8],
      ],
    );
    assert.equal(samples, 6);
    const [first, second] = versions;
    assert.ok(first!.text!.firstToken.p50 > 0 && first!.text!.nextToken.p50 > 0);
    assert.ok(Math.abs(first!.text!.tokensPerSecond / (8 * first!.throughput) - 1) < 1e-9);
    assert.deepEqual([first!.agreement, first!.kl, first!.text!.sameBeginning], [1, 0, 1]);
    assert.ok(second!.text!.sameBeginning < 1 && second!.flops < first!.flops);
    assert.ok(second!.kl! > 0 && second!.agreement! <= 1);
    const { kl } = second!.differences!;
    assert.ok(kl!.interval!.low <= second!.kl! && second!.kl! <= kl!.interval!.high);
    assert.equal(second!.text!.klByPosition.length, 8);
    assert.ok(second!.differences!.firstTokenP50!.value > 0 && second!.differences!.nextTokenP50!.value > 0);
    assert.match(notes[0]!, /6 prompts of .*text\.txt, 8 tokens generated for each/);
  }
  const report = join(folder, 'report.html');
  const table = await run(['compare', ...remote, ...settings, '--report', report]);
  assert.match(table.out, /first token p50/);
  assert.match(table.out, /tokens until the texts part/);
  assert.match(table.out, /mean KL to the first, a token of text/);
  assert.match(table.out, /Agreement and KL are of \d+ predictions/);
  const shows = async (...parts: string[]) => {
    const page = await readFile(report, 'utf8');
    for (const part of parts) assert.ok(page.includes(part), part);
  };
  await shows('each token after p50', 'Loss by position');
  const own = await run(['compare', ...local, ...settings, '--report', report]);
  assert.equal(own.code, exitCodes.done, own.err);
  await shows('Loss by position', 'Loss against bytes');
  const batched = await run(['compare', ...remote, ...settings, '--batch', '2']);
  assert.match(batched.err, /--batch: 2, expected 1 of a language model/);
});
