import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { byteVocabulary } from '../../data/text/byte-tokenizer.js';
import { openTokenizer } from '../../data/text/tokenizer.js';
import { textManifest } from '../../store/manifest.js';
import { openRepository } from '../../store/repository.js';
import { importBaseline } from '../baseline.js';
import { smallTextShape, writeSmallTextModel } from '../testing/small-text-model.js';

const root = await mkdtemp(join(tmpdir(), 'heartwood-text-baseline-'));
after(() => rm(root, { recursive: true, force: true }));
const repository = join(root, 'models');
const context = { workDirectory: join(repository, '.work'), signal: new AbortController().signal };
const imported = (modelDirectory: string, name: string) =>
  importBaseline({ modelDirectory, repository, name }, context);

describe('a language model as version 1', () => {
  test('has its graph, its tokenizer and what Triton is told of it, and is found again', async () => {
    const folder = await writeSmallTextModel(join(root, 'small'), {}, { do_sample: true, temperature: 0.5, top_k: 7 });
    const { published } = await imported(folder, 'small');
    const { text: whole, flops, ...manifest } = textManifest(published.manifest);
    const { parameters, bytesPerToken, ...text } = whole;
    const cache = { heads: 2, width: 16 };
    assert.deepEqual(text, {
      tokenizer: 'tokenizer.json',
      context: smallTextShape.context,
      vocabulary: byteVocabulary,
      bos: 0,
      eos: [0],
      caches: [cache, cache],
      stages: [],
      defaults: { temperature: 0.5, topK: 7 },
    });
    assert.equal(manifest.architecture, 'GPTNeoXForCausalLM');
    const files = await readdir(published.directory);
    for (const name of ['model.onnx', 'model.blocked.onnx', 'tokenizer.json', 'generation_config.json'])
      assert.ok(files.includes(name), name);
    assert.deepEqual((await openTokenizer(join(published.directory, text.tokenizer))).encode('a'), [98]);
    assert.match(await readFile(join(repository, 'small', 'config.pbtxt'), 'utf8'), /decoupled: true/);

    // All products of a block, 4 · hidden² for attention and 2 · hidden · neurons for the MLP, and the vocabulary's.
    const { hidden, intermediate, layers, vocabulary } = smallTextShape;
    const products = 2 * (layers * (4 * hidden ** 2 + 2 * hidden * intermediate) + hidden * vocabulary);
    assert.ok(flops.dense > products && flops.dense < 1.5 * products, `${flops.dense} for products of ${products}`);

    const matrices = 4 * hidden ** 2 + 2 * hidden * intermediate;
    assert.equal(parameters!.blocks, layers * (matrices + 5 * hidden + intermediate));
    assert.equal(parameters!.denseBlocks, parameters!.blocks);
    assert.equal(bytesPerToken, 4 * (parameters!.all - hidden * vocabulary));

    const again = await imported(folder, 'small');
    assert.deepEqual(again.published.manifest, published.manifest);
    assert.equal((await (await openRepository(repository)).verify('small', 1)).version, 1);
  });

  test('what does not fit is named before anything is written', async () => {
    const untokenized = await writeSmallTextModel(join(root, 'untokenized'));
    await rm(join(untokenized, 'tokenizer.json'));
    await assert.rejects(imported(untokenized, 'broken'), { code: 'NOT_FOUND', message: /tokenizer\.json/ });

    const narrow = await writeSmallTextModel(join(root, 'narrow'), { vocabulary: 100 });
    await assert.rejects(imported(narrow, 'broken'), {
      code: 'INVALID_ARGUMENT',
      message: /tokenizer\.json: 257 tokens, expected at most the model's vocabulary of 100/,
    });

    const odd = await writeSmallTextModel(join(root, 'odd'), {}, { eos_token_id: 300 });
    await assert.rejects(imported(odd, 'broken'), {
      message: /token 300 begins or ends a text, expected one below 257/,
    });
    await writeFile(join(odd, 'generation_config.json'), '{"temperature": "hot"}');
    await assert.rejects(imported(odd, 'broken'), { message: /generation_config\.json: temperature: / });
    assert.deepEqual(await readdir(join(repository, 'broken')).catch(() => []), []);
  });
});
