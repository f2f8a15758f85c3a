import { GenericContainer, getContainerRuntimeClient } from 'testcontainers';

/** Which image a test runs: `npm run test:containers` has built it. */
export function imageOf(what: 'IMAGE' | 'JETSON' | 'POSTGRESQL' | 'PROMETHEUS'): string {
  const name = process.env[`HEARTWOOD_TEST_${what}`];
  if (name === undefined) throw new Error(`HEARTWOOD_TEST_${what} is not set: run npm run test:containers`);
  return name;
}

/** A container as a careful platform runs it: root file system read-only, no capability, no way to gain privileges. */
export class LockedContainer extends GenericContainer {
  constructor(image: string) {
    super(image);
    this.hostConfig.ReadonlyRootfs = true;
    this.withDroppedCapabilities('ALL').withSecurityOpt('no-new-privileges');
  }
}

/** What the engine knows of a container; testcontainers has no call for these. */
export async function engineContainer(id: string) {
  return (await getContainerRuntimeClient()).container.getById(id);
}

/** Kills a container's first process outright. */
export async function killContainer(id: string, signal = 'SIGKILL'): Promise<void> {
  await (await engineContainer(id)).kill({ signal });
}

/** Resolves when it has ended, with its exit code. */
export async function exitCode(id: string): Promise<number> {
  const { StatusCode } = (await (await engineContainer(id)).wait()) as { StatusCode: number };
  return StatusCode;
}

/** The last lines that a container wrote on both outputs, of its earlier lives too. */
export async function logOf(id: string, lines = 20): Promise<string> {
  const log = await (await engineContainer(id)).logs({ stdout: true, stderr: true, tail: lines });
  // The engine puts eight bytes before each piece: which output it is of, and its length.
  let text = '';
  for (let at = 0; at + 8 <= log.length; at += 8 + log.readUInt32BE(at + 4)) {
    text += log.toString('utf8', at + 8, at + 8 + log.readUInt32BE(at + 4));
  }
  return text;
}
