import assert from 'node:assert/strict';
import { test } from 'node:test';
import { withHugePages } from './huge-pages.js';

test('huge pages are asked for beside other tunables, unless the environment says otherwise', () => {
  assert.deepEqual(withHugePages({ A: 'b' }), { A: 'b', GLIBC_TUNABLES: 'glibc.malloc.hugetlb=1' });
  assert.deepEqual(withHugePages({ GLIBC_TUNABLES: 'glibc.malloc.tcache_count=9' }), {
    GLIBC_TUNABLES: 'glibc.malloc.tcache_count=9:glibc.malloc.hugetlb=1',
  });
  const chosen = { GLIBC_TUNABLES: 'glibc.malloc.hugetlb=0' };
  assert.equal(withHugePages(chosen), chosen);
});
