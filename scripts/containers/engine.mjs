// A Docker engine to test with: the one that answers, or, as root where Debian's docker.io is installed, one of our own for as long as this
// process lives, with all of its data in a temporary folder.
import { spawn } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { ask } from './shell.mjs';

/** Seconds that the engine gets to start. */
const patience = 240;

/**
 * Finds or starts an engine and points DOCKER_HOST at one that was started.
 * @param say told of an engine that is started
 * @returns `stop`, or `missing`: in one line why there is none
 */
export async function findEngine(say) {
  if (ask('docker', ['--version']) === undefined) return { missing: 'docker is not installed (Debian: docker.io)' };
  if (answers()) return { stop: async () => undefined };
  if (process.getuid?.() !== 0) return { missing: 'no Docker engine answers, and only root could start one' };
  if (ask('dockerd', ['--version']) === undefined)
    return { missing: 'no Docker engine answers, and dockerd is not installed' };
  const folder = mkdtempSync(join(tmpdir(), 'heartwood-docker-'));
  say(`starting a Docker engine in ${folder}`);
  const log = join(folder, 'dockerd.log');
  const output = openSync(log, 'w');
  const socket = `unix://${join(folder, 'docker.sock')}`;
  const places = [
    '--data-root',
    join(folder, 'data'),
    '--exec-root',
    join(folder, 'run'),
    '--pidfile',
    join(folder, 'dockerd.pid'),
  ];
  // A session of its own, so that a Ctrl-C reaches it through us, in order; and should we be killed, it ends as well.
  const parameters = ['--pdeathsig', 'TERM', 'dockerd', '--host', socket, ...places];
  const child = spawn('setpriv', parameters, { stdio: ['ignore', output, output], detached: true });
  closeSync(output);
  const ended = new Promise((resolve) => child.once('exit', resolve).once('error', resolve));
  let over = false;
  void ended.then(() => (over = true));
  process.env.DOCKER_HOST = socket;
  const stop = async () => {
    child.kill('SIGTERM');
    await ended;
    removeWithMounts(folder);
  };
  for (let second = 0; second < patience && !over; second++) {
    if (answers()) return { stop };
    await pause(1000);
  }
  const last = readFileSync(log, 'utf8').trim().split('\n').at(-1);
  await stop();
  return { missing: `dockerd did not start here: ${last}` };
}

/** The engine leaves the network namespace that containers with the host's network share mounted. */
function removeWithMounts(folder) {
  const mounted = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[1] ?? '')
    .filter((place) => place.startsWith(`${folder}/`));
  for (const place of mounted.reverse()) ask('umount', ['--lazy', place]);
  rmSync(folder, { recursive: true, force: true });
}

function answers() {
  return ask('timeout', ['20', 'docker', 'version', '--format', '{{.Server.Version}}']) !== undefined;
}
