import type { Rule } from '../rule.js';
import { commandLines, paths } from './commands.js';
import { labels, ports, references, selectors } from './references.js';
import {
  limits,
  noGrpcProbeThroughTls,
  oneEmbeddedDatabase,
  oneNodeForOneVolume,
  probes,
  timeToStart,
  timeToStop,
  upgradesWithoutAGap,
} from './running.js';
import { nobodyIsPrivileged, nobodyIsRoot, noTokens, nothingToGain, onlySysOfTheNode } from './security.js';

/** The rules of our own, beyond the schemas. */
export const rules: readonly Rule[] = [
  nobodyIsPrivileged,
  nobodyIsRoot,
  nothingToGain,
  onlySysOfTheNode,
  noTokens,
  limits,
  probes,
  noGrpcProbeThroughTls,
  timeToStart,
  timeToStop,
  upgradesWithoutAGap,
  oneEmbeddedDatabase,
  oneNodeForOneVolume,
  selectors,
  ports,
  references,
  labels,
  commandLines,
  paths,
];
