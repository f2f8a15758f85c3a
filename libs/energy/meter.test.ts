import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { joulesBetween, openEnergyMeter, type EnergyMeter, type MeterOptions } from './meter.js';
import { type EnergySample, TOTAL } from './sample.js';
import { agxOrin, type Board, orinNano, orinNx, x86Host } from './testing/boards.js';
import { type Curve, joulesOf } from './testing/curve.js';
import { moving, type MovingBoard } from './testing/moving-board.js';

async function opened(context: TestContext, options: MeterOptions): Promise<EnergyMeter> {
  const meter = await openEnergyMeter(options);
  assert.ok(meter);
  context.after(() => meter.close());
  return meter;
}

/** The first sample that fits, from now on. */
function sampleOf(meter: EnergyMeter, fits: (sample: EnergySample) => boolean): Promise<EnergySample> {
  return new Promise((resolve) => {
    // A meter keeps no process alive; the test's shall wait.
    const alive = setInterval(() => undefined, 1000);
    const stop = meter.subscribe((sample) => {
      if (!fits(sample)) return;
      stop();
      clearInterval(alive);
      resolve(sample);
    });
  });
}

/** Where either process had to wait for a processor for longer, the meter did not see the curve. */
const longestWaitMs = 60;

const longestGap = (times: readonly number[]): number =>
  Math.max(...times.slice(1).map((time, index) => time - times[index]!));

interface Stretch {
  readonly first: EnergySample;
  readonly last: EnergySample;
  /** When the values were moved, from before the first to after the last. */
  readonly moves: readonly number[];
}

/** The first second of the meter's samples in which nobody had to wait, wherever it begins. */
async function stretch(meter: EnergyMeter, board: MovingBoard): Promise<Stretch> {
  for (;;) {
    let [first, before]: (EnergySample | undefined)[] = [];
    const last = await sampleOf(meter, (sample) => {
      if (!(TOTAL in sample.watts)) return false;
      if (first === undefined || sample.time - before!.time > longestWaitMs) first = sample;
      before = sample;
      return sample.time >= first.time + 1000;
    });
    const moves = await board.moves(first!.time, last.time);
    if (longestGap(moves) <= longestWaitMs) return { first: first!, last, moves };
  }
}

/** Meters a board that another process moves: each rail's joules are within 2 % of its curve's integral. */
async function follows(
  context: TestContext,
  board: Board,
  expected: { name: string; rails: Record<string, Curve>; total: readonly string[] },
): Promise<void> {
  const moved = await moving(board, context);
  const problems: string[] = [];
  const meter = await opened(context, { root: board.root, sampleHz: 100, report: (line) => problems.push(line) });
  assert.equal(meter.name, expected.name);
  assert.deepEqual([...meter.rails].sort(), Object.keys(expected.rails).sort());
  assert.equal(meter.total, true);
  const { first, last, moves } = await stretch(meter, moved);
  // A count is that of its last move.
  const timeOf = ({ time }: EnergySample): number =>
    (board.counters.length > 0 ? moves.findLast((move) => move <= time)! : time) - moved.begin;
  const taken = (rail: string) => last.joules[rail]! - first.joules[rail]!;
  const integral = (rail: string) => joulesOf(expected.rails[rail]!, timeOf(first), timeOf(last));
  for (const rail of Object.keys(expected.rails)) closeTo(taken(rail), integral(rail), 0.02, rail);
  const whole = expected.total.reduce((sum, rail) => sum + integral(rail), 0);
  closeTo(taken(TOTAL), whole, 0.02, 'total');
  const parts = expected.total.reduce((sum, rail) => sum + taken(rail), 0);
  closeTo(taken(TOTAL), parts, 1e-9, 'sum of the parts');
  assert.deepEqual(problems, []);
}

function closeTo(actual: number, expected: number, tolerance: number, what: string): void {
  assert.ok(Math.abs(actual - expected) <= tolerance * Math.abs(expected), `${what}: ${actual}, expected ${expected}`);
}

const curvesOf = (rails: Board['powers'] | Board['counters']): Record<string, Curve> =>
  Object.fromEntries(rails.map(({ label, curve }) => [label, curve]));

describe('a meter follows a board that another process moves', () => {
  for (const jetpack of [5, 6] as const) {
    it(`AGX Orin, JetPack ${jetpack}: VDDQ is measured, and not counted twice`, async (context) => {
      const board = agxOrin(jetpack);
      const total = ['VDD_GPU_SOC', 'VDD_CPU_CV', 'VIN_SYS_5V0'];
      await follows(context, board, { name: 'ina3221', rails: curvesOf(board.powers), total });
    });
    for (const [name, layout] of Object.entries({ 'Orin NX': orinNx, 'Orin Nano': orinNano })) {
      it(`${name}, JetPack ${jetpack}: all is behind VDD_IN`, async (context) => {
        const board = layout(jetpack);
        await follows(context, board, { name: 'ina3221', rails: curvesOf(board.powers), total: ['VDD_IN'] });
      });
    }
  }

  it('an x86 host: packages and memory, while a counter begins anew', async (context) => {
    const board = x86Host();
    const [package0, core, dram, package1, psys] = board.counters.map(({ curve }) => curve) as [
      Curve,
      Curve,
      Curve,
      Curve,
      Curve,
    ];
    await follows(context, board, {
      name: 'rapl',
      rails: { 'package-0': package0, 'core-0': core, 'dram-0': dram, 'package-1': package1, psys },
      total: ['package-0', 'dram-0', 'package-1'],
    });
  });

  it('tells what was taken between two moments', async (context) => {
    const board = orinNx(6);
    const moved = await moving(board, context);
    const meter = await opened(context, { root: board.root, sampleHz: 100 });
    await sampleOf(meter, ({ watts }) => TOTAL in watts);
    for (;;) {
      const [start, before] = [performance.now(), meter.joules()];
      await stretch(meter, moved);
      const [end, after] = [performance.now(), meter.joules()];
      const joules = await joulesBetween(before, after);
      if (longestGap(await moved.moves(start, end)) > longestWaitMs) continue;
      closeTo(joules!, joulesOf(board.powers[0]!.curve, start - moved.begin, end - moved.begin), 0.03, 'joules');
      break;
    }
  });
});

describe('what cannot be read', () => {
  const still = (context: TestContext, board: Board): Board => {
    context.after(() => rmSync(board.root, { recursive: true, force: true }));
    return board;
  };
  const current = ({ folder, channel }: Board['powers'][number]) => join(folder, `curr${channel}_input`);

  it('is left out and named, and the total stands without it where it is no part of that', async (context) => {
    const board = still(context, agxOrin(6));
    rmSync(current(board.powers[3]!));
    const problems: string[] = [];
    const meter = await opened(context, { root: board.root, report: (line) => problems.push(line) });
    assert.deepEqual(meter.rails, ['VDD_GPU_SOC', 'VDD_CPU_CV', 'VIN_SYS_5V0']);
    assert.equal(meter.total, true);
    assert.equal(problems.length, 1);
    assert.match(problems[0]!, /rail VDDQ_VDD2_1V8AO .*is left out: ENOENT/);
  });

  it('takes the total with it where it is a part', async (context) => {
    const board = still(context, agxOrin(5));
    rmSync(current(board.powers[1]!));
    const problems: string[] = [];
    const meter = await opened(context, { root: board.root, report: (line) => problems.push(line) });
    assert.equal(meter.total, false);
    assert.match(problems.join('\n'), /VDD_CPU_CV[\s\S]*no total: it is VDD_GPU_SOC \+ VDD_CPU_CV \+ VIN_SYS_5V0/);
    const sample = await sampleOf(meter, () => true);
    assert.deepEqual(Object.keys(sample.watts).sort(), ['VDDQ_VDD2_1V8AO', 'VDD_GPU_SOC', 'VIN_SYS_5V0']);
    assert.equal(await meter.joules(), undefined);
  });

  it('comes back when it can be read again', async (context) => {
    const board = still(context, orinNano(6));
    const [input, , soc] = board.powers as [Board['powers'][number], unknown, Board['powers'][number]];
    writeFileSync(current(input), '1000\n');
    const problems: string[] = [];
    const meter = await opened(context, {
      root: board.root,
      sampleHz: 100,
      report: (line) => problems.push(line),
    });
    await sampleOf(meter, ({ watts }) => 'VDD_SOC' in watts);
    const content = readFileSync(current(soc));
    rmSync(current(soc));
    const without = await sampleOf(meter, ({ watts }) => !('VDD_SOC' in watts) && problems.length > 0);
    assert.ok(TOTAL in without.watts);
    writeFileSync(current(soc), content);
    await sampleOf(meter, ({ watts }) => 'VDD_SOC' in watts && problems.length > 1);
    assert.match(problems[0]!, /rail VDD_SOC cannot be read .*ENOENT/);
    assert.match(problems[1]!, /rail VDD_SOC can be read again/);
  });

  it('is no meter, with the reasons, where there is nothing', async (context) => {
    const root = mkdtempSync(join(tmpdir(), 'heartwood-board-'));
    context.after(() => rmSync(root, { recursive: true }));
    const problems: string[] = [];
    assert.equal(await openEnergyMeter({ root, report: (line) => problems.push(line) }), undefined);
    assert.match(problems.join('\n'), /ina3221: no monitor[\s\S]*no RAPL counter[\s\S]*nvidia-smi/);
    assert.equal(await openEnergyMeter({ root, meter: 'none' }), undefined);
    await assert.rejects(openEnergyMeter({ root, meter: 'rapl' }), {
      code: 'FAILED_PRECONDITION',
      message: /^energy meter rapl: .*no RAPL counter/,
    });
  });

  it('is no guess: a board whose rails are not known has no total', async (context) => {
    const board = still(context, orinNano(5));
    const { folder } = board.powers[0]!;
    writeFileSync(join(folder, 'in1_label'), 'VDD_SOMETHING\n');
    const problems: string[] = [];
    const meter = await opened(context, { root: board.root, report: (line) => problems.push(line) });
    assert.equal(meter.total, false);
    assert.match(problems.join('\n'), /no total: a board with the rails VDD_SOMETHING/);
  });
});

describe('opening and closing', () => {
  it('refuses a rate and a name that are none', async () => {
    for (const sampleHz of [0, 101, NaN])
      await assert.rejects(openEnergyMeter({ sampleHz }), { code: 'INVALID_ARGUMENT', message: /100 at most/ });
    await assert.rejects(openEnergyMeter({ meter: 'guess' as 'auto' }), { code: 'INVALID_ARGUMENT' });
  });

  it('answers nothing after it is closed, to those who wait too', async (context) => {
    const board = orinNx(5);
    context.after(() => rmSync(board.root, { recursive: true, force: true }));
    const meter = await openEnergyMeter({ root: board.root, sampleHz: 0.1 });
    const waiting = meter!.joules();
    await meter!.close();
    await meter!.ended;
    assert.equal(await waiting, undefined);
    assert.equal(await meter!.joules(), undefined);
  });

  it('lets the process end, but not before it has answered', (context) => {
    const board = orinNx(6);
    context.after(() => rmSync(board.root, { recursive: true, force: true }));
    const module = JSON.stringify(new URL('./meter.js', import.meta.url).href);
    const script = `const { openEnergyMeter } = await import(${module});
      const meter = await openEnergyMeter({ root: ${JSON.stringify(board.root)} });
      await meter.joules();
      console.log(typeof (await meter.joules()));`;
    const file = join(board.root, 'reader.mjs');
    writeFileSync(file, script);
    const child = spawnSync(process.execPath, [file], { timeout: 300_000 });
    assert.equal(child.stdout.toString(), 'number\n', child.stderr.toString());
    assert.equal(child.status, 0);
  });
});
