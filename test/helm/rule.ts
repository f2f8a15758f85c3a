import type { Rendered } from './helm.js';

/** A rule that every release keeps. */
export interface Rule {
  readonly name: string;
  /** What breaks it in these objects, each in a line. */
  faults(objects: readonly Rendered[]): string[];
  /** Breaks it in an example, so that a test can see it caught. */
  readonly broken: { readonly example: string; readonly change: (objects: Rendered[]) => void };
}
