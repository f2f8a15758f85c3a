import type { ServedVersion } from '../catalog/served-version.js';

/** The labels of everything that is told by version. */
export const VERSION = ['model', 'version'] as const;

export type VersionLabels = Record<(typeof VERSION)[number], string>;

/** Of calls that named no version of the repository: whatever they named never becomes a label. */
const unknown: VersionLabels = { model: 'unknown', version: 'unknown' };

export function versionLabels(version: Pick<ServedVersion, 'model' | 'version'> | undefined): VersionLabels {
  return version ? { model: version.model, version: String(version.version) } : unknown;
}
