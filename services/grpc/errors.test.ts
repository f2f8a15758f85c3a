import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ServerError, Status } from 'nice-grpc';
import { type ErrorCode, HeartwoodError } from '../../libs/errors/error.js';
import { fromStatus, toServerError } from './errors.js';

test('every code goes to gRPC under its own name and comes back as itself', () => {
  const codes: ErrorCode[] = ['INVALID_ARGUMENT', 'NOT_FOUND', 'ALREADY_EXISTS', 'FAILED_PRECONDITION', 'OUT_OF_RANGE'];
  codes.push('RESOURCE_EXHAUSTED', 'UNIMPLEMENTED', 'UNAVAILABLE', 'DEADLINE_EXCEEDED', 'CANCELLED', 'INTERNAL');
  codes.push('UNAUTHENTICATED', 'PERMISSION_DENIED');
  for (const code of codes) {
    const error = toServerError(new HeartwoodError(code, `field: wrong ${code}`));
    assert.equal(Status[error.code], code);
    assert.equal(error.details, `field: wrong ${code}`);
    assert.equal(fromStatus(error.code, error.details).code, code);
  }
});

test('a defect does not tell the client its text, an abort is CANCELLED, a server error stays', () => {
  const defect = toServerError(new TypeError("Cannot read '/etc/secret'"));
  assert.equal(defect.code, Status.INTERNAL);
  assert.doesNotMatch(defect.details, /secret/);
  assert.equal(toServerError(new DOMException('gone', 'AbortError')).code, Status.CANCELLED);
  const own = new ServerError(Status.ABORTED, 'x');
  assert.equal(toServerError(own), own);
  assert.equal(toServerError(new HeartwoodError('INTERNAL', 'a\n  b')).details, 'a b');
});
