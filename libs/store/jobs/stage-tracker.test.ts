import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pendingStage, StageTracker } from './stage-tracker.js';

function tracked(stages = ['score', 'plan'].map(pendingStage)) {
  const clock = { ms: 0 };
  const tracker = new StageTracker(stages, () => clock.ms);
  return { clock, tracker, stage: (name: string) => tracker.snapshot().find((stage) => stage.name === name)! };
}

test('rate and time left follow the progress', () => {
  const { clock, tracker, stage } = tracked();
  tracker.begin('score');
  assert.equal(stage('score').rate, null);
  clock.ms = 2000;
  tracker.progress({ stage: 'score', done: 100, total: 400, unit: 'samples' });
  assert.deepEqual([stage('score').rate, stage('score').secondsLeft, stage('score').unit], [50, 6, 'samples']);
  // Much slower now: after the window has passed only the present counts.
  for (let step = 1; step <= 40; step++) {
    clock.ms += 1000;
    tracker.progress({ stage: 'score', done: 100 + step, total: 400, unit: 'samples' });
  }
  assert.ok(Math.abs(stage('score').rate! - 1) < 0.1, String(stage('score').rate));
  assert.ok(Math.abs(stage('score').secondsLeft! - 260) < 30);
  tracker.complete('score', false);
  assert.deepEqual(
    [stage('score').state, stage('score').done, stage('score').secondsLeft, stage('score').seconds],
    ['done', 400, null, 42],
  );
  assert.equal(stage('plan').state, 'pending');
});

test('a stage that was under way when its worker died begins anew and keeps its time; unknown stages are added', () => {
  const first = tracked();
  first.tracker.progress({ stage: 'score', done: 10, total: 20, unit: 'samples' });
  first.clock.ms = 3000;
  const { clock, tracker, stage } = tracked(first.tracker.snapshot());
  assert.deepEqual([stage('score').state, stage('score').done, stage('score').seconds], ['pending', 0, 3]);
  tracker.begin('score');
  clock.ms = 4000;
  assert.equal(stage('score').seconds, 7);
  tracker.progress({ stage: 'extra', done: 1, total: 0, unit: 'x' });
  assert.equal(stage('extra').secondsLeft, null);
  assert.deepEqual(
    tracker.snapshot().map(({ name }) => name),
    ['score', 'plan', 'extra'],
  );
});
