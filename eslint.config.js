import { existsSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import js from '@eslint/js';
import prettier from 'eslint-config-prettier';
import importX from 'eslint-plugin-import-x';
import { defineConfig, globalIgnores } from 'eslint/config';
import tseslint from 'typescript-eslint';

const root = dirname(fileURLToPath(import.meta.url));

/**
 * What a library may import: those below it (services → pruning, training, store → curvature → autodiff, models, runtime, data
 * → onnx → errors) and the few neighbours that it has to know. `onnx` and `autodiff` know no model, `models` knows no
 * pruning, no library knows a service.
 */
const ground = ['errors'];
const graphs = [...ground, 'onnx'];
const engines = [...graphs, 'autodiff', 'models', 'runtime', 'data'];
const measures = [...engines, 'curvature'];
const mayImport = {
  errors: [],
  telemetry: ground,
  energy: ground,
  onnx: ground,
  autodiff: graphs,
  runtime: graphs,
  models: graphs,
  data: [...graphs, 'models'],
  curvature: engines,
  store: measures,
  training: measures,
  pruning: [...measures, 'store', 'training'],
};
const zones = Object.entries(mayImport).map(([library, others]) => ({
  target: `./libs/${library}`,
  from: './libs',
  except: [library, ...others].map((other) => `./${other}`),
  message: `libs/${library} may import ${['itself', ...others].join(', ')} (eslint.config.js says why)`,
}));
zones.push({
  target: './libs',
  from: ['./services', './proto', './bench', './test'],
  message: 'a library knows no service and no wire contract',
});
const strangers = {
  pruner: ['server', 'cli'],
  server: ['pruner', 'cli'],
  // The plumbing that both share knows neither.
  grpc: ['server', 'pruner', 'cli'],
};
for (const [service, others] of Object.entries(strangers)) {
  zones.push({
    target: `./services/${service}`,
    from: others.map((other) => `./services/${other}`),
    message: 'the services know each other only by their wire contracts',
  });
}

/** In the sources `./x.js` is the file `./x.ts`. */
const sourceResolver = {
  interfaceVersion: 3,
  name: 'sources',
  resolve(specifier, file) {
    if (!specifier.startsWith('.')) return { found: false };
    const path = resolve(dirname(file), specifier);
    const found = [path.replace(/\.js$/, '.ts'), path].find((candidate) => existsSync(candidate));
    return found === undefined ? { found: false } : { found: true, path: found };
  },
};

const onlyTheRuntime = {
  paths: ['onnxruntime-node', 'onnxruntime-common'].map((name) => ({
    name,
    message: 'libs/runtime alone loads it: a session on the main thread would block the event loop',
  })),
};

export default defineConfig(
  globalIgnores(['dist/', '**/gen/', 'node_modules/', 'demo-output/']),
  js.configs.recommended,
  { linterOptions: { reportUnusedDisableDirectives: 'error' } },
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.recommendedTypeChecked],
    languageOptions: { parserOptions: { project: './tsconfig.json', tsconfigRootDir: root } },
    plugins: { 'import-x': importX },
    settings: {
      'import-x/parsers': { '@typescript-eslint/parser': ['.ts'] },
      'import-x/extensions': ['.ts', '.js'],
      'import-x/resolver-next': [sourceResolver],
    },
    rules: {
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      '@typescript-eslint/no-explicit-any': 'error',
      // Where an index is known to be in range, `!` says so; noUncheckedIndexedAccess makes one write it.
      '@typescript-eslint/no-non-null-assertion': 'off',
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
      // An async function without await keeps an interface's promise of a promise.
      '@typescript-eslint/require-await': 'off',
      // Interfaces here are records of functions; none reads `this`.
      '@typescript-eslint/unbound-method': 'off',
      'no-restricted-imports': ['error', onlyTheRuntime],
      'max-lines': ['warn', { max: 400 }],
      eqeqeq: 'error',
      'no-console': 'error',
      'import-x/no-cycle': 'error',
    },
  },
  {
    files: ['libs/**/*.ts', 'services/**/*.ts'],
    ignores: ['**/*.test.ts', '**/testing/**'],
    plugins: { 'import-x': importX },
    rules: { 'import-x/no-restricted-paths': ['error', { basePath: root, zones }] },
  },
  { files: ['libs/runtime/**/*.ts'], rules: { 'no-restricted-imports': 'off' } },
  // What a command prints is its work.
  { files: ['services/cli/**/*.ts', 'bench/**/*.ts'], rules: { 'no-console': 'off' } },
  {
    files: ['**/*.test.ts', 'test/**/*.ts'],
    rules: {
      // Tests take parsed JSON and caught errors apart; an assertion says more than a type there.
      '@typescript-eslint/no-unsafe-assignment': 'off',
      '@typescript-eslint/no-unsafe-member-access': 'off',
      '@typescript-eslint/no-unsafe-argument': 'off',
      // node:test's describe and it return promises that the runner awaits.
      '@typescript-eslint/no-floating-promises': [
        'error',
        {
          allowForKnownSafeCalls: [
            { from: 'package', name: ['it', 'test', 'describe', 'suite'], package: 'node:test' },
          ],
        },
      ],
    },
  },
  {
    files: ['**/*.mjs', '**/*.js'],
    languageOptions: {
      globals: { process: 'readonly', console: 'readonly', performance: 'readonly', URL: 'readonly' },
    },
  },
  prettier,
);
