// npm run test:containers [-- PATTERN …]: builds the image and the tests' PostgreSQL and Prometheus, then runs test/containers against them and
// ends as npm test does. Where no Docker engine can be had it says so in one line and ends well; under CI=true, as root, that is a failure.
import { buildImage } from './containers/build-image.mjs';
import { makeServiceImages, services } from './containers/base-images.mjs';
import { buildJetsonStandIn } from './containers/jetson-stand-in.mjs';
import { findEngine } from './containers/engine.mjs';
import { builtTests, prepare } from './prepare.mjs';
import { runTests } from './run-tests.mjs';

prepare();
const patterns = process.argv.slice(2);
const files = builtTests()
  .filter((file) => file.includes('/test/containers/'))
  .filter((file) => patterns.length === 0 || patterns.some((pattern) => file.includes(pattern)));
if (files.length === 0) {
  console.error(`no test file of test/containers matches ${patterns.join(' ')}`);
  process.exit(1);
}

const engine = await findEngine((line) => console.error(line));
if (engine.missing !== undefined) {
  const must = process.env.CI === 'true' && process.getuid?.() === 0;
  console[must ? 'error' : 'log'](`container tests ${must ? 'cannot run' : 'skipped'}: ${engine.missing}`);
  process.exit(must ? 1 : 0);
}
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, () => void engine.stop().finally(() => process.exit(signal === 'SIGINT' ? 130 : 143)));
}
let passed;
try {
  const image = 'heartwood-test/heartwood:checkout';
  const say = (line) => console.error(line);
  const bytes = buildImage(image, say);
  console.log(`image: ${(bytes / 1e6).toFixed(0)} MB`);
  makeServiceImages(say);
  const jetson = 'heartwood-test/jetson:stand-in';
  buildJetsonStandIn(jetson, image, say);
  // The reaper would be pulled; what a test leaves behind goes with its engine, or is removed by the test itself.
  process.env.TESTCONTAINERS_RYUK_DISABLED = 'true';
  process.env.HEARTWOOD_TEST_IMAGE = image;
  process.env.HEARTWOOD_TEST_JETSON = jetson;
  process.env.HEARTWOOD_TEST_POSTGRESQL = services.postgresql;
  process.env.HEARTWOOD_TEST_PROMETHEUS = services.prometheus;
  passed = await runTests(files, { concurrency: 1, timeout: 1_800_000 });
} finally {
  await engine.stop();
}
process.exit(passed ? 0 : 1);
