/** The Dockerfiles without an engine: a linter, rules of our own, and versions that agree with the lock file. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { after, describe, test } from 'node:test';
import { type Arg, DockerfileParser, type From } from 'dockerfile-ast';
import { validate } from 'dockerfile-utils';

const root = fileURLToPath(new URL('../../', import.meta.url));
const textOf = (path: string): string => readFileSync(join(root, path), 'utf8');
const lock = JSON.parse(textOf('package-lock.json')) as {
  packages: Record<string, { version: string; engines?: { node?: string } }>;
};
const product = lock.packages['']!;

const files = [
  'Dockerfile',
  'Dockerfile.jetson',
  ...readdirSync(join(root, 'scripts/containers'))
    .filter((name) => name.endsWith('.Dockerfile'))
    .map((name) => `scripts/containers/${name}`),
];
const images = files.slice(0, 2);

/** The default of an ARG. */
function argument(file: string, name: string): string | undefined {
  const found = DockerfileParser.parse(textOf(file))
    .getInstructions()
    .filter((one): one is Arg => one.getKeyword() === 'ARG')
    .find((one) => one.getProperty()?.getName() === name);
  return found?.getProperty()?.getUnescapedValue() ?? undefined;
}

for (const file of files) {
  describe(file, () => {
    const text = textOf(file);
    const instructions = DockerfileParser.parse(text).getInstructions();
    const of = (keyword: string) => instructions.filter((one) => one.getKeyword() === keyword);
    const argumentsOf = (keyword: string) => of(keyword).map((one) => one.getArgumentsContent() ?? '');

    test('is without a finding of the linter', () => {
      const findings = validate(text).map(
        ({ range, message, severity }) =>
          `${file}:${range.start.line + 1}: ${severity === 1 ? 'error' : 'warning'}: ${JSON.stringify(message)}`,
      );
      assert.deepEqual(findings, []);
    });

    test('can be built by the classic builder, over bases that can be replaced', () => {
      for (const one of [...of('RUN'), ...of('COPY')]) {
        const content = one.getArgumentsContent() ?? '';
        assert.doesNotMatch(
          one.getTextContent(),
          /--(mount|network|security|link|chmod|parents|exclude)\b|<</,
          content,
        );
      }
      assert.deepEqual(of('ADD'), []);
      for (const from of of('FROM') as From[]) {
        const base = from.getImage()!;
        const stages = (of('FROM') as From[]).map((stage) => stage.getBuildStage());
        if (stages.includes(base)) continue;
        const name = /^\$\{(\w+)\}$/.exec(base)?.[1];
        assert.ok(name !== undefined, `FROM ${base}: expected an ARG`);
        const usual = argument(file, name);
        assert.match(usual ?? '', /^[^:]+:[^:]+$/, `ARG ${name}: expected an image with a tag`);
        if (!usual!.startsWith('heartwood:')) assert.doesNotMatch(usual!, /:latest$/);
      }
    });

    test('leaves nothing of packages behind, and copies only what is there', () => {
      for (const content of argumentsOf('RUN').filter((line) => line.includes('apt-get install'))) {
        assert.match(content, /--no-install-recommends/);
        assert.match(content, /rm -rf \/var\/lib\/apt\/lists\/\*/);
      }
      for (const copy of of('COPY').filter((one) => !one.getTextContent().includes('--from='))) {
        for (const source of (copy.getArgumentsContent() ?? '').split(/\s+/).slice(0, -1)) {
          assert.ok(existsSync(join(root, source)), `COPY ${source}`);
          const top = source.split('/')[0]!;
          assert.ok(textOf('.dockerignore').split('\n').includes(`!${top}`), `.dockerignore leaves ${top} out`);
        }
      }
    });

    test('runs no root, and its program directly', () => {
      const users = argumentsOf('USER');
      assert.match(users.at(-1) ?? '', /^(10001(:10001)?|postgres|prometheus)$/);
      for (const content of [...argumentsOf('ENTRYPOINT'), ...argumentsOf('CMD')]) {
        assert.ok(Array.isArray(JSON.parse(content)), `${content}: expected the form without a shell`);
      }
      assert.equal(of('ENTRYPOINT').length, 1);
    });
  });
}

describe('versions', () => {
  test('ONNX Runtime is compiled for Jetson at the version of the npm package', () => {
    const version = lock.packages['node_modules/onnxruntime-node']!.version;
    assert.equal(argument('Dockerfile.jetson', 'ONNXRUNTIME_VERSION'), version);
    const binding = readFileSync(join(root, 'node_modules/onnxruntime-node/dist/binding.js'), 'utf8');
    const folder = /bin\/(napi-v\d+)\//.exec(binding)?.[1];
    assert.ok(folder !== undefined);
    assert.ok(textOf('Dockerfile.jetson').includes(`/onnxruntime-node/bin/${folder}/linux/`), folder);
    assert.ok(textOf('scripts/jetson/compile-onnxruntime.sh').includes(`js/node/bin/${folder}/linux/`), folder);
  });

  test('the Node of the images is one that the package runs on, and the label is the package’s version', () => {
    const wanted = /^>=(\d+)\./.exec(product.engines?.node ?? '')?.[1];
    assert.ok(wanted !== undefined);
    for (const file of images) {
      const major = /^node:(\d+)-/.exec(argument(file, 'NODE_IMAGE') ?? '')?.[1];
      assert.ok(Number(major) >= Number(wanted), `${file}: node ${major}`);
      assert.equal(argument(file, 'VERSION'), product.version);
    }
  });
});

test('TensorRT’s options are read before the provider is appended, and a source of another shape is refused', () => {
  const folder = mkdtempSync(join(tmpdir(), 'heartwood-binding-'));
  after(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, 'options.cc');
  const patch = (source: string) => {
    writeFileSync(file, source);
    const script = join(root, 'scripts/jetson/read-tensorrt-environment.mjs');
    const { status, stderr } = spawnSync(process.execPath, [script, file], { encoding: 'utf8' });
    return { status, stderr, source: readFileSync(file, 'utf8') };
  };
  const call = '      sessionOptions.AppendExecutionProvider_TensorRT_V2(*options);';
  const source = `#include <cmath>\nvoid f() {\n${call}\n      Release(options);\n}\n`;
  const patched = patch(source);
  assert.equal(patched.status, 0, patched.stderr);
  assert.equal(patched.source.split(call).length, 2);
  assert.ok(patched.source.indexOf('UpdateTensorRTProviderOptions(options') < patched.source.indexOf(call));
  assert.match(patched.source, /\{"trt_engine_cache_path", "ORT_TENSORRT_CACHE_PATH"\}/);
  assert.ok(patched.source.endsWith(source.slice(source.indexOf(call))), 'the rest stays');
  for (const other of ['void f() {}', `${source}${source}`]) {
    const refused = patch(other);
    assert.deepEqual([refused.status, refused.source], [1, other]);
    assert.match(refused.stderr, /expected one call of AppendExecutionProvider_TensorRT_V2/);
  }
});
