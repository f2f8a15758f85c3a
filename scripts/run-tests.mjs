// Runs test files and ends in the totals, `tests: N passed, N failed`, with the reasons of what was skipped above them.
import { relative } from 'node:path';
import { run } from 'node:test';
import { inspect } from 'node:util';
import { OpenTests } from './open-tests.mjs';
import { root } from './prepare.mjs';

/**
 * Runs the files, prints what failed as it fails, and the totals. A file that takes too long is ended, and the test that it was at is named.
 * @param options.concurrency files at a time
 * @param options.timeout milliseconds that a file may take
 * @returns whether everything passed
 */
export async function runTests(files, { concurrency, timeout }) {
  const results = { passed: [], failed: [], skipped: [] };
  const silent = new Set(files);
  const open = new OpenTests();
  const shortName = (file) =>
    relative(root, file)
      .replace(/^dist\//, '')
      .replace(/\.js$/, '.ts');

  function record(event, outcome) {
    const failure = outcome === 'failed' ? event.details.error : undefined;
    const reason = event.skip ?? event.todo;
    // A suite counts only for what went wrong outside of its tests (a hook of it), or when all of it was skipped.
    const quiet = event.details?.type === 'suite' && failure === undefined && reason === undefined;
    if (failure?.failureType === 'subtestsFailed' || quiet) return;
    silent.delete(event.file);
    const kind = outcome === 'passed' && reason !== undefined ? 'skipped' : outcome;
    // A file that ended badly by itself is reported as a test with the file's path as its name.
    const name = event.name === event.file ? shortName(event.file) : `${shortName(event.file ?? '')}: ${event.name}`;
    const hung = failure?.failureType === 'testTimeoutFailure' ? open.of(event.file) : undefined;
    results[kind].push({ name: hung === undefined ? name : `${name}: ${hung}`, reason });
    if (kind !== 'failed') return;
    console.log(`✖ ${name}\n${describeFailure(failure)}`);
    if (hung !== undefined) console.log(`    it was at: ${hung}`);
    console.log();
  }

  function describeFailure(failure) {
    const cause = failure.cause ?? failure;
    const text = cause instanceof Error ? (cause.stack ?? cause.message) : inspect(cause);
    const extra = cause?.code === 'ERR_ASSERTION' && !text.includes(cause.message) ? `${cause.message}\n` : '';
    return `${extra}${text}`.replace(/^/gm, '    ');
  }

  const started = performance.now();
  const stream = run({ files, concurrency, timeout });
  stream.on('test:enqueue', (event) => open.enqueued(event));
  for (const end of ['test:pass', 'test:fail']) stream.on(end, (event) => open.ended(event));
  stream.on('test:pass', (event) => record(event, 'passed'));
  stream.on('test:fail', (event) => record(event, 'failed'));
  stream.on('test:stderr', (event) => process.stderr.write(event.message));
  await new Promise((resolve, reject) => {
    stream.on('end', resolve);
    stream.on('error', reject);
    stream.resume();
  });

  for (const file of silent) results.failed.push({ name: `${shortName(file)}: no test in it ran` });
  const { passed, failed, skipped } = results;
  if (skipped.length > 0) {
    console.log(`skipped (${skipped.length}):`);
    for (const { name, reason } of skipped)
      console.log(`  ${name} (${typeof reason === 'string' ? reason : 'no reason given'})`);
  }
  if (failed.length > 0) {
    console.log('failed:');
    for (const { name } of failed) console.log(`  ${name}`);
  }
  console.log(`files: ${files.length}, seconds: ${((performance.now() - started) / 1000).toFixed(0)}`);
  // The totals as node's own reporter closes with, for programs that read those, and then for people.
  const ran = passed.length + failed.length + skipped.length;
  console.log(`# tests ${ran}\n# pass ${passed.length}\n# fail ${failed.length}\n# skipped ${skipped.length}`);
  console.log(`tests: ${passed.length} passed, ${failed.length} failed`);
  return failed.length === 0;
}
