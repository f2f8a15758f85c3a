// Writes the TypeScript code of every .proto file with ts-proto, driven by buf: libs/onnx/gen from the ONNX specification's own
// onnx.proto, proto/gen from the wire contracts. The output is committed, so that a checkout builds without this step.
//
//   node scripts/generate-protobuf.mjs            writes the files
//   node scripts/generate-protobuf.mjs --check    writes nothing; exits 1, naming what differs, if they are not current
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');

const common = [
  'esModuleInterop=true',
  'importSuffix=.js',
  'forceLong=bigint',
  'useExactTypes=false',
  // The versions of the tools in the header would make every update of theirs a change of these files.
  'annotateFilesWithVersion=false',
];
const targets = [
  {
    // Messages only. Without env=node, bytes stay views of the file's buffer instead of copies.
    source: 'libs/onnx',
    output: 'libs/onnx/gen',
    options: [
      ...common,
      'outputServices=none',
      'outputJsonMethods=false',
      'outputPartialMethods=true',
      'noDefaultsForOptionals=true',
    ],
  },
  {
    source: 'proto',
    output: 'proto/gen',
    options: [...common, 'env=node', 'outputServices=nice-grpc', 'outputServices=generic-definitions'],
  },
];

/** Every file below a folder, as paths relative to it, sorted. */
function filesBelow(folder, suffix = '') {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(suffix))
    .map((entry) => relative(folder, join(entry.parentPath ?? entry.path, entry.name)))
    .sort();
}

/** Runs buf over one target; the generated files by their paths. */
function generate(target) {
  const work = mkdtempSync(join(tmpdir(), 'heartwood-protobuf-'));
  try {
    const template = {
      version: 'v2',
      plugins: [
        {
          local: join(root, 'node_modules/.bin/protoc-gen-ts_proto'),
          out: work,
          opt: target.options,
          strategy: 'all',
        },
      ],
    };
    execFileSync(
      join(root, 'node_modules/.bin/buf'),
      ['generate', join(root, target.source), '--template', JSON.stringify(template)],
      { stdio: ['ignore', 'inherit', 'inherit'] },
    );
    return new Map(filesBelow(work).map((path) => [path, readFileSync(join(work, path), 'utf8')]));
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

const check = process.argv.includes('--check');
const stale = [];
for (const target of targets) {
  if (filesBelow(join(root, target.source), '.proto').length === 0) continue;
  const folder = join(root, target.output);
  const wanted = generate(target);
  const present = filesBelow(folder);
  const differing = [...wanted].filter(
    ([path, text]) => !present.includes(path) || readFileSync(join(folder, path), 'utf8') !== text,
  );
  const orphans = present.filter((path) => !wanted.has(path));
  if (check) {
    stale.push(
      ...differing.map(([path]) => join(target.output, path)),
      ...orphans.map((path) => join(target.output, path)),
    );
    continue;
  }
  for (const [path, text] of differing) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), text);
    console.log(`wrote ${join(target.output, path)}`);
  }
  for (const path of orphans) {
    rmSync(join(folder, path));
    console.log(`removed ${join(target.output, path)}`);
  }
}
if (stale.length > 0) {
  console.error(`generated files are not current (run \`npm run generate\`): ${stale.join(', ')}`);
  process.exit(1);
}
if (check) console.log('generated files are current');
