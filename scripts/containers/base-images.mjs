// Base images under the names that the Dockerfile asks for. Where a registry answers they are pulled; else stand-ins are made from Debian's
// packages (debootstrap, as root) and the Node that runs this. The PostgreSQL and Prometheus of the container tests are Debian's.
import { cpSync, existsSync, mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ask, run } from './shell.mjs';

export const bases = { debian: 'debian:bookworm-slim', node: 'node:20-bookworm-slim' };
export const services = {
  postgresql: 'heartwood-test/postgresql:bookworm',
  prometheus: 'heartwood-test/prometheus:bookworm',
};

const here = dirname(fileURLToPath(import.meta.url));
const mirror = process.env.DEBIAN_MIRROR ?? 'http://deb.debian.org/debian';
const label = 'LABEL heartwood.stand-in=true';
/** Seconds that a registry gets; one that cannot be reached may not say so. */
const patience = 120;

/** Makes what is not there yet. @param say told what is being done */
export function makeBaseImages(say) {
  for (const [name, make] of [
    [bases.debian, makeDebian],
    [bases.node, makeNode],
  ]) {
    if (ask('docker', ['image', 'inspect', '--format', '{{.Id}}', name]) !== undefined) continue;
    if (ask('timeout', [`${patience}`, 'docker', 'pull', '--quiet', name]) !== undefined) say(`${name}: pulled`);
    else {
      say(`${name}: no registry has it for us, a stand-in is made`);
      inFolder((folder) => make(name, folder));
    }
  }
}

export function makeServiceImages(say) {
  for (const [service, name] of Object.entries(services)) {
    say(`${name}: from Debian's packages`);
    const file = join(here, `${service}.Dockerfile`);
    run('docker', [
      'build',
      '--network',
      'host',
      '--tag',
      name,
      '--build-arg',
      `BASE_IMAGE=${bases.debian}`,
      '--file',
      file,
      here,
    ]);
  }
}

/** A minimal Debian without documentation and translations, as the slim images are. */
function makeDebian(name, folder) {
  const system = join(folder, 'system');
  run('debootstrap', ['--variant=minbase', 'bookworm', system, mirror]);
  const cut = ['usr/share/locale', 'usr/share/man', 'usr/share/info', 'var/lib/apt/lists', 'var/cache', 'var/log'];
  for (const path of cut) run('find', [join(system, path), '-mindepth', '1', '-delete']);
  run('find', [join(system, 'usr/share/doc'), '-type', 'f', '!', '-name', 'copyright', '-delete']);
  const archive = join(folder, 'system.tar');
  run('tar', ['--create', '--numeric-owner', '--file', archive, '--directory', system, '.']);
  run('docker', ['import', '--change', label, '--change', 'CMD ["bash"]', archive, name]);
}

/** The Node and npm of this machine over that Debian, where the official image has them. */
function makeNode(name, folder) {
  const local = join(folder, 'local');
  for (const path of ['bin', 'lib/node_modules', 'etc']) mkdirSync(join(local, path), { recursive: true });
  cpSync(process.execPath, join(local, 'bin/node'));
  cpSync(npmFolder(), join(local, 'lib/node_modules/npm'), { recursive: true });
  // Where this machine trusts an authority of its own (a proxy that looks into TLS), npm has to do so in there too.
  const authorities = ask('npm', ['config', 'get', 'cafile']) || process.env.NODE_EXTRA_CA_CERTS;
  if (authorities && authorities !== 'null' && existsSync(authorities)) {
    cpSync(realpathSync(authorities), join(local, 'etc/npm-authorities.pem'));
    writeFileSync(join(local, 'etc/npmrc'), 'cafile=/usr/local/etc/npm-authorities.pem\n');
  }
  const links = ['npm', 'npx'].map((tool) => `ln -s ../lib/node_modules/npm/bin/${tool}-cli.js /usr/local/bin/${tool}`);
  const lines = [`FROM ${bases.debian}`, label, 'COPY local /usr/local', `RUN ${links.join(' && ')} && npm --version`];
  writeFileSync(join(folder, 'Dockerfile'), `${lines.join('\n')}\n`);
  run('docker', ['build', '--tag', name, folder]);
}

/** Where npm is installed: the package that its command is a link into. */
function npmFolder() {
  const command = ask('sh', ['-c', 'command -v npm']);
  if (command === undefined) throw new Error('npm is not on the path');
  const file = realpathSync(command);
  const end = `${sep}npm${sep}`;
  return file.slice(0, file.lastIndexOf(end) + end.length - 1);
}

function inFolder(work) {
  const folder = mkdtempSync(join(tmpdir(), 'heartwood-base-'));
  try {
    work(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
