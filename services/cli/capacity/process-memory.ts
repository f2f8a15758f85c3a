import { readFile, writeFile } from 'node:fs/promises';
import { HeartwoodError } from '../../../libs/errors/error.js';

/** Bytes of a process that are in memory. */
export interface ProcessMemory {
  readonly residentBytes: number;
  /** The most that it had since it began, or since {@link forgetPeak}. */
  readonly peakBytes: number;
}

/** Reads `/proc/PID/status` (proc(5): VmRSS and VmHWM, in KiB). Throws UNIMPLEMENTED where there is none. */
export async function memoryOf(pid: number): Promise<ProcessMemory> {
  const file = `/proc/${pid}/status`;
  let status: string;
  try {
    status = await readFile(file, 'utf8');
  } catch (cause) {
    throw new HeartwoodError('UNIMPLEMENTED', `${file} cannot be read: capacity is measured on Linux alone`, { cause });
  }
  const kib = (field: string): number => Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1] ?? NaN);
  return { residentBytes: kib('VmRSS') * 1024, peakBytes: kib('VmHWM') * 1024 };
}

/** Sets the peak back to what is resident now (proc(5): clear_refs). Where a sandbox forbids it, the peak stays that of the whole life. */
export async function forgetPeak(pid: number): Promise<void> {
  await writeFile(`/proc/${pid}/clear_refs`, '5').catch(() => undefined);
}
