// npm test [-- PATTERN …]: installs and builds what is missing, runs every test (or the files whose path contains a pattern),
// and ends in one line, `tests: N passed, N failed`, with `, N skipped` where any was, their reasons above it.
import { availableParallelism } from 'node:os';
import { builtTests, prepare } from './prepare.mjs';
import { runTests } from './run-tests.mjs';

prepare();
const patterns = process.argv.slice(2);
const files = builtTests()
  // Those want a Docker engine and images: npm run test:containers.
  .filter((file) => !file.includes('/test/containers/'))
  .filter((file) => patterns.length === 0 || patterns.some((pattern) => file.includes(pattern)));
if (files.length === 0) {
  console.error(patterns.length > 0 ? `no test file matches ${patterns.join(' ')}` : 'there are no tests');
  process.exit(1);
}
// The longest take a minute or two on two idle cores: a file that takes this long hangs, however slow or busy the machine.
const timeout = 1_200_000;
const passed = await runTests(files, { concurrency: Math.min(2, availableParallelism()), timeout });
process.exit(passed ? 0 : 1);
