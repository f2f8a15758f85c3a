import { test as nodeTest } from 'node:test';
import { withoutHelm } from './helm.js';

/** A test that is skipped, with a word, where there is no helm. */
export function test(name: string, body: () => Promise<void> | void, also: string | false = false): void {
  void nodeTest(name, { skip: withoutHelm || also }, body);
}
